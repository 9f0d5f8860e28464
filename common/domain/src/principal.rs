//! Who asks, and what they may ask for: people, programs, workers.

use std::collections::BTreeSet;
use std::fmt;

use crate::ids::ShardId;

/// Longest name of a principal in bytes.
const MAX_NAME: usize = 128;

/// Names that stand in the history for something else than a principal.
const RESERVED: [&str; 2] = [Principal::ANYBODY, "coordinator"];

/// What somebody may ask for. Each role of people covers those before it; a worker's is beside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Looks, and changes nothing.
    Viewer,
    /// Submits, starts, pauses, cancels, rolls back.
    Operator,
    /// Also approves what somebody wants to start.
    Approver,
    /// Also changes where things are: the topology.
    Admin,
    /// Serves shards, and nothing else.
    Worker,
}

impl Role {
    /// Every role.
    pub const ALL: [Role; 5] = [Role::Viewer, Role::Operator, Role::Approver, Role::Admin, Role::Worker];

    /// The word for people and settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Approver => "approver",
            Role::Admin => "admin",
            Role::Worker => "worker",
        }
    }

    /// The role of this word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == word)
    }

    /// Whether this role may do what needs `least`.
    pub fn covers(self, least: Role) -> bool {
        match (self.rank(), least.rank()) {
            (Some(mine), Some(least)) => mine >= least,
            _ => self == least,
        }
    }

    /// Its place among the roles of people.
    fn rank(self) -> Option<u8> {
        match self {
            Role::Viewer => Some(0),
            Role::Operator => Some(1),
            Role::Approver => Some(2),
            Role::Admin => Some(3),
            Role::Worker => None,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which shards somebody may serve as a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// None, as people.
    Nothing,
    /// These.
    Only(BTreeSet<ShardId>),
    /// Whatever it names.
    Everything,
}

impl Reach {
    /// Whether whoever has this one may serve all that `other` names.
    fn covers(&self, other: &Reach) -> bool {
        match (self, other) {
            (_, Reach::Nothing) | (Reach::Everything, _) => true,
            (Reach::Only(mine), Reach::Only(theirs)) => theirs.is_subset(mine),
            _ => false,
        }
    }
}

/// Somebody who is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    name: String,
    role: Role,
    reach: Reach,
    ends: Option<i64>,
}

/// Why there can be no such principal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrincipalError {
    /// The name is no name.
    #[error(
        "{0:?} is no name of a principal: it needs 1 to 128 bytes, without spaces around it or control characters"
    )]
    Name(String),
    /// The name means something else in the history.
    #[error("{0:?} stands for something else in the history: choose another name")]
    Reserved(String),
    /// A worker without shards.
    #[error("a worker needs the ids of the shards that it may serve, or \"*\" for every one")]
    NoShards,
    /// Shards of somebody who serves none.
    #[error("only a worker serves shards")]
    Shards,
}

impl Principal {
    /// Who asks where nobody is asked who they are.
    pub const ANYBODY: &'static str = "person";

    /// A principal with this role; `reach` belongs to workers.
    pub fn new(name: &str, role: Role, reach: Reach) -> Result<Self, PrincipalError> {
        let told = || name.chars().take(80).collect::<String>();
        if name.is_empty()
            || name.len() > MAX_NAME
            || name.trim() != name
            || name.chars().any(char::is_control)
        {
            return Err(PrincipalError::Name(told()));
        }
        if RESERVED.contains(&name) {
            return Err(PrincipalError::Reserved(told()));
        }
        match (role, &reach) {
            (Role::Worker, Reach::Nothing) => return Err(PrincipalError::NoShards),
            (Role::Worker, Reach::Only(shards)) if shards.is_empty() => return Err(PrincipalError::NoShards),
            (Role::Worker, _) | (_, Reach::Nothing) => {}
            _ => return Err(PrincipalError::Shards),
        }
        Ok(Self { name: name.to_owned(), role, reach, ends: None })
    }

    /// The same as long as what it has shown is good: until so many seconds after 1970 began.
    pub fn until(self, ends: i64) -> Self {
        Self { ends: Some(ends), ..self }
    }

    /// Whoever asks a coordinator that knows nobody: it may do everything.
    pub fn anybody() -> Self {
        Self { name: Self::ANYBODY.to_owned(), role: Role::Admin, reach: Reach::Everything, ends: None }
    }

    /// Its name, as the history tells it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When what it has shown is not good any more, in seconds since 1970; `None`: as long as it is known.
    pub fn ends(&self) -> Option<i64> {
        self.ends
    }

    /// What it may ask for.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Whether it is the same one as `before`, and may all that it might then.
    pub fn still_may_what(&self, before: &Principal) -> bool {
        self.name == before.name && self.role.covers(before.role) && self.reach.covers(&before.reach)
    }

    /// Whether it may serve a shard.
    pub fn serves(&self, shard: &ShardId) -> bool {
        match &self.reach {
            Reach::Nothing => false,
            Reach::Only(shards) => shards.contains(shard),
            Reach::Everything => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(id: &str) -> ShardId {
        ShardId::new(id).expect("a name")
    }

    #[test]
    fn a_role_covers_those_before_it_and_a_worker_only_itself() {
        use Role::{Admin, Approver, Operator, Viewer, Worker};
        let people = [Viewer, Operator, Approver, Admin];
        for (at, mine) in people.iter().enumerate() {
            for (below, least) in people.iter().enumerate() {
                assert_eq!(mine.covers(*least), at >= below, "{mine} for {least}");
            }
            assert!(!mine.covers(Worker) && !Worker.covers(*mine), "{mine}");
        }
        assert!(Worker.covers(Worker));
        assert!(Role::ALL.into_iter().all(|role| Role::parse(role.as_str()) == Some(role)));
        assert_eq!(Role::parse("root"), None);
    }

    #[test]
    fn a_worker_serves_the_shards_that_it_is_bound_to() {
        let only = Reach::Only([shard("a")].into());
        let bound = Principal::new("w", Role::Worker, only.clone()).expect("valid");
        assert!(bound.serves(&shard("a")) && !bound.serves(&shard("b")));
        assert!(Principal::new("w", Role::Worker, Reach::Everything).expect("valid").serves(&shard("b")));
        assert!(!Principal::new("p", Role::Admin, Reach::Nothing).expect("valid").serves(&shard("a")));
        assert!(Principal::anybody().serves(&shard("b")));
        for (role, reach) in [
            (Role::Worker, Reach::Nothing),
            (Role::Worker, Reach::Only(BTreeSet::new())),
            (Role::Admin, Reach::Everything),
            (Role::Viewer, only),
        ] {
            assert!(Principal::new("x", role, reach.clone()).is_err(), "{role} {reach:?}");
        }
    }

    #[test]
    fn rights_that_grow_cover_what_they_were_and_no_others_do() {
        let one = |name, role, reach: &Reach| Principal::new(name, role, reach.clone()).expect("valid");
        let (nothing, all) = (Reach::Nothing, Reach::Everything);
        let (a, both) = (Reach::Only([shard("a")].into()), Reach::Only([shard("a"), shard("b")].into()));
        let worker = |reach| one("w", Role::Worker, reach);
        for (now, before, still) in [
            (one("m", Role::Viewer, &nothing), one("m", Role::Viewer, &nothing), true),
            (one("m", Role::Admin, &nothing), one("m", Role::Viewer, &nothing), true),
            (one("m", Role::Viewer, &nothing), one("m", Role::Admin, &nothing), false),
            (one("o", Role::Admin, &nothing), one("m", Role::Viewer, &nothing), false),
            (worker(&both), worker(&a), true),
            (worker(&all), worker(&both), true),
            (worker(&a), worker(&both), false),
            (worker(&both), worker(&all), false),
            (one("w", Role::Admin, &nothing), worker(&a), false),
        ] {
            assert_eq!(now.still_may_what(&before), still, "{now:?} after {before:?}");
        }
    }

    #[test]
    fn a_name_is_one_that_the_history_can_tell() {
        for name in ["mira", "mira@example.com", "auth0|7", "Ünal Öz"] {
            assert_eq!(Principal::new(name, Role::Viewer, Reach::Nothing).expect(name).name(), name);
        }
        for name in ["", " mira", "mira\n", "a\u{1b}b", &"m".repeat(129), "person", "coordinator"] {
            assert!(Principal::new(name, Role::Viewer, Reach::Nothing).is_err(), "{name:?}");
        }
    }
}
