//! What goes before what (promise P5): `depends_on` always wins; without a dependency between them, schema goes
//! before data of the same cluster.
//!
//! What was submitted before and has not begun waits for what was decided then. It takes part here, so that a circle
//! that closes over it is told now and does not wait for ever.

use std::collections::{BTreeMap, BTreeSet};

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::MigrationId;
use shardlift_domain::migration::{Migration, Status};
use shardlift_domain::plan::Disposition;
use shardlift_domain::spec::{Kind, Spec};
use shardlift_domain::verdict::{Finding, Severity};

use super::disposition;

/// The specs, as indexes, in an order in which they may begin, each with what it waits for. What cannot be
/// ordered is left out and told.
pub(super) fn sort(
    specs: &[Spec],
    known: &BTreeMap<MigrationId, Migration>,
    findings: &mut Vec<Finding>,
) -> Vec<(usize, Vec<MigrationId>)> {
    let nodes = nodes(specs, known);
    dependencies(&nodes, known, findings);
    let mut graph = Graph::new(&nodes);
    graph.schema_first(&nodes);
    graph.circles(&nodes, findings);
    let sorted = graph.sorted().into_iter().filter(|at| *at < specs.len());
    sorted.map(|at| (at, graph.waits_for(&nodes, at))).collect()
}

/// Tells dependencies that nobody knows, and those that nobody will ever complete.
fn dependencies(nodes: &[Node<'_>], known: &BTreeMap<MigrationId, Migration>, findings: &mut Vec<Finding>) {
    let here: BTreeMap<&MigrationId, &Node<'_>> = nodes.iter().map(|node| (node.id, node)).collect();
    for spec in nodes.iter().filter(|node| node.stored.is_none()).filter_map(|node| node.spec) {
        for id in &spec.depends_on {
            let stored = match here.get(id) {
                Some(node) => node.stored,
                None if known.contains_key(id) => known.get(id),
                None => {
                    findings.push(super::error(Failure::new(
                        ErrorCode::PlanMissingDependency,
                        format!("{} depends on {id}, which is neither here nor known", spec.id),
                        "correct `depends_on`, or add the missing spec to the directory",
                    )));
                    continue;
                }
            };
            if let Some(stored) = stored.filter(|stored| given_up(stored)) {
                let message = format!("{} depends on {id}, which is {}", spec.id, stored.status);
                let next =
                    "it would wait for a next version of that id; depend on what takes its place instead";
                let failure = Failure::new(ErrorCode::PlanMissingDependency, message, next);
                findings.push(Finding { severity: Severity::Warning, failure });
            }
        }
    }
}

fn given_up(migration: &Migration) -> bool {
    matches!(migration.status, Status::Cancelled | Status::RolledBack)
}

/// One migration that takes part: a spec, or one that was submitted before and has not begun.
struct Node<'a> {
    id: &'a MigrationId,
    /// What it waits for whatever else is found.
    needs: &'a [MigrationId],
    /// Its spec, if it is among those that are planned.
    spec: Option<&'a Spec>,
    /// What was submitted before, if the spec adds nothing to it.
    stored: Option<&'a Migration>,
}

/// The specs, by their indexes; then what is known, pending and not among them.
fn nodes<'a>(specs: &'a [Spec], known: &'a BTreeMap<MigrationId, Migration>) -> Vec<Node<'a>> {
    let mut nodes: Vec<Node<'a>> = specs
        .iter()
        .map(|spec| {
            let stored = match disposition::of(spec, known) {
                Ok((Disposition::Known { .. }, _)) => known.get(&spec.id),
                _ => None,
            };
            let waiting = stored.filter(|stored| stored.status == Status::Pending);
            let needs = waiting.map_or(&spec.depends_on, |stored| &stored.waits_for);
            Node { id: &spec.id, needs, spec: Some(spec), stored }
        })
        .collect();
    let here: BTreeSet<&MigrationId> = specs.iter().map(|spec| &spec.id).collect();
    let waiting = known.values().filter(|known| known.status == Status::Pending);
    nodes.extend(waiting.filter(|known| !here.contains(&known.key.id)).map(|known| Node {
        id: &known.key.id,
        needs: &known.waits_for,
        spec: None,
        stored: Some(known),
    }));
    nodes
}

/// Who waits for whom.
struct Graph {
    /// Of each node: what it waits for.
    needs: Vec<BTreeSet<usize>>,
    /// Of each node: what lies before it over any number of steps. Complete at any time.
    before: Vec<Vec<bool>>,
}

impl Graph {
    /// What is said by the specs, and by what was submitted before.
    fn new(nodes: &[Node<'_>]) -> Self {
        let index: BTreeMap<&MigrationId, usize> =
            nodes.iter().enumerate().map(|(at, node)| (node.id, at)).collect();
        let count = nodes.len();
        let mut graph = Self { needs: vec![BTreeSet::new(); count], before: vec![vec![false; count]; count] };
        for (at, node) in nodes.iter().enumerate() {
            for first in node.needs.iter().filter_map(|id| index.get(id)) {
                graph.add(*first, at);
            }
        }
        // What has begun waits for nothing any more; it keeps its place where it can.
        for (at, stored) in nodes.iter().enumerate().filter_map(|(at, node)| Some((at, node.stored?))) {
            for first in stored.waits_for.iter().filter_map(|id| index.get(id)) {
                if !graph.before[*first][at] {
                    graph.add(*first, at);
                }
            }
        }
        graph
    }

    /// Adds schema-before-data wherever it closes no circle. Each is judged after those that were added before it: a
    /// circle may run over several implied edges.
    fn schema_first(&mut self, nodes: &[Node<'_>]) {
        let specs = |kind| {
            nodes.iter().enumerate().filter_map(move |(at, node)| {
                node.spec.filter(|spec| spec.kind() == kind).map(|spec| (at, node, spec))
            })
        };
        for (data, _, spec) in specs(Kind::Data).filter(|(_, node, _)| node.stored.is_none()) {
            for (schema, node, other) in specs(Kind::Schema) {
                // Nobody waits for what was given up, unless the spec says so.
                let counts = other.cluster == spec.cluster && !node.stored.is_some_and(given_up);
                if counts && !self.before[schema][data] {
                    self.add(schema, data);
                }
            }
        }
    }

    fn add(&mut self, first: usize, then: usize) {
        self.needs[then].insert(first);
        if self.before[then][first] {
            return;
        }
        let mut gained = self.before[first].clone();
        gained[first] = true;
        for (at, before) in self.before.iter_mut().enumerate() {
            if (at == then || before[then]) && !before[first] {
                before.iter_mut().zip(&gained).for_each(|(has, gains)| *has |= gains);
            }
        }
    }

    /// Tells each circle with its members.
    fn circles(&self, nodes: &[Node<'_>], findings: &mut Vec<Finding>) {
        let mut told = vec![false; nodes.len()];
        for at in 0..nodes.len() {
            if !self.before[at][at] || told[at] {
                continue;
            }
            let circle: Vec<usize> = (at..nodes.len())
                .filter(|other| self.before[at][*other] && self.before[*other][at])
                .collect();
            circle.iter().for_each(|member| told[*member] = true);
            let names: Vec<_> = circle.iter().map(|member| nodes[*member].id.as_str()).collect();
            let next = if circle.iter().all(|member| nodes[*member].stored.is_none()) {
                "remove one of the `depends_on` of the circle"
            } else {
                "remove one of the `depends_on` of the circle, or cancel what was submitted before and is still pending"
            };
            findings.push(super::error(Failure::new(
                ErrorCode::PlanCycle,
                format!("these specs depend on each other in a circle: {}", names.join(", ")),
                next,
            )));
        }
    }

    /// Takes, again and again, the first node whose predecessors are taken; what remains lies on a circle or behind one.
    fn sorted(&self) -> Vec<usize> {
        let mut open: Vec<usize> = self.needs.iter().map(BTreeSet::len).collect();
        let mut behind = vec![Vec::new(); self.needs.len()];
        for (at, needs) in self.needs.iter().enumerate() {
            needs.iter().for_each(|first| behind[*first].push(at));
        }
        let mut ready: BTreeSet<usize> = (0..open.len()).filter(|at| open[*at] == 0).collect();
        let mut sorted = Vec::with_capacity(open.len());
        while let Some(next) = ready.pop_first() {
            sorted.push(next);
            for then in &behind[next] {
                open[*then] -= 1;
                if open[*then] == 0 {
                    ready.insert(*then);
                }
            }
        }
        sorted
    }

    /// What the spec names, known ids included, then what was implied; for what is known, what was decided then.
    fn waits_for(&self, nodes: &[Node<'_>], at: usize) -> Vec<MigrationId> {
        if let Some(stored) = nodes[at].stored {
            return stored.waits_for.clone();
        }
        let mut ids = nodes[at].needs.to_vec();
        let named: BTreeSet<&MigrationId> = nodes[at].needs.iter().collect();
        let implied = self.needs[at].iter().map(|first| nodes[*first].id);
        ids.extend(implied.filter(|id| !named.contains(id)).cloned());
        ids
    }
}
