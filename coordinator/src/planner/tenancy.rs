//! What tenants want of migrations that name them: to be left out, to be held back, to come early or late.

use std::collections::{BTreeMap, BTreeSet};

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::MigrationId;
use shardlift_domain::migration::Migration;
use shardlift_domain::plan::{Disposition, Plan};
use shardlift_domain::spec::{self, Spec, SpecFile, TenantKey};
use shardlift_domain::verdict::{Finding, Severity};

use super::disposition;

/// Tenants that a sentence names one by one.
const NAMED: usize = 10;

/// What one tenant wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TenantSettings {
    /// Its rows are left as they are.
    pub opt_out: bool,
    /// Nothing begins for it now; the reason, which may be empty.
    pub held: Option<String>,
    /// Its place: the smaller, the earlier. Who has none comes last.
    pub order: Option<i64>,
}

/// Specs as their tenants want them, and what a plan has to say of that.
#[derive(Debug, Default)]
pub struct Tenancy {
    /// Without those who have opted out.
    pub specs: Vec<Spec>,
    /// The files of these specs.
    pub files: Vec<SpecFile>,
    notes: BTreeMap<MigrationId, Vec<String>>,
    findings: Vec<Finding>,
}

/// The tenants whose settings planning wants to know: those that new specs name.
pub(crate) fn wanted(specs: &[Spec], known: &BTreeMap<MigrationId, Migration>) -> BTreeSet<String> {
    let new = specs.iter().filter(|spec| is_new(spec, known));
    new.filter_map(Spec::tenants).flat_map(|tenants| tenants.keys.iter().map(TenantKey::text)).collect()
}

fn is_new(spec: &Spec, known: &BTreeMap<MigrationId, Migration>) -> bool {
    matches!(disposition::of(spec, known), Ok((Disposition::New | Disposition::NextVersion, _)))
}

/// Leaves out who has opted out, in the files as well: what is stored and sent to workers says who takes part.
pub(crate) fn apply(
    specs: Vec<Spec>,
    files: &[SpecFile],
    known: &BTreeMap<MigrationId, Migration>,
    settings: &BTreeMap<String, TenantSettings>,
) -> Tenancy {
    let mut tenancy = Tenancy::default();
    for (spec, file) in specs.into_iter().zip(files) {
        let named = spec.tenants().filter(|_| is_new(&spec, known)).map(|tenants| tenants.keys.clone());
        let Some(named) = named.filter(|_| !settings.is_empty()) else {
            tenancy.add(spec, file.clone());
            continue;
        };
        let wants = |key: &TenantKey| settings.get(&key.text()).cloned().unwrap_or_default();
        let (out, left): (Vec<_>, Vec<_>) = named.into_iter().partition(|key| wants(key).opt_out);
        let held: Vec<_> = left.iter().filter_map(|key| Some((key.text(), wants(key).held?))).collect();
        if let Some(finding) = told_held(&spec.id, &held) {
            tenancy.findings.push(Finding { severity: Severity::Warning, failure: finding });
        }
        let mut places: Vec<_> =
            left.iter().filter_map(|key| Some((wants(key).order?, key.text()))).collect();
        places.sort();
        if !places.is_empty() {
            let names = names(places.into_iter().map(|(_, name)| name).collect());
            tenancy.note(
                &spec.id,
                format!("tenants in the order that they want: {names}; their shards go so into waves"),
            );
        }
        if out.is_empty() {
            tenancy.add(spec, file.clone());
            continue;
        }
        tenancy.note(&spec.id, format!("left out, since they have opted out: {}", texts(&out)));
        match without(&spec, file, &out, left.is_empty()) {
            Ok((spec, file)) => tenancy.add(spec, file),
            Err(failure) => {
                tenancy.findings.push(Finding { severity: Severity::Error, failure });
                tenancy.add(spec, file.clone());
            }
        }
    }
    tenancy
}

/// The same spec without some of its tenants; its content, and so its checksum, stays that of the file.
fn without(
    spec: &Spec,
    file: &SpecFile,
    out: &[TenantKey],
    is_nobody_left: bool,
) -> Result<(Spec, SpecFile), Failure> {
    if is_nobody_left {
        let message = format!("every tenant that {} names has opted out", spec.id);
        let next = "nothing is to be done; name others in `tenants`, or ask those to take part";
        return Err(Failure::new(ErrorCode::PlanRefused, message, next));
    }
    let line = if file.text.ends_with('\n') { "" } else { "\n" };
    let out: Vec<String> = out.iter().map(written).collect();
    let text = format!("{}{line}left_out: [{}]\n", file.text, out.join(", "));
    let file = SpecFile { name: file.name.clone(), text };
    match spec::parse(&file) {
        Ok(less) if less.checksum == spec.checksum => Ok((less, file)),
        _ => {
            let message = format!("{} is not written so that tenants could be left out of it", spec.id);
            let next = "write its keys one below the other at the top, without braces around them, and without a line `...`";
            Err(Failure::new(ErrorCode::PlanRefused, message, next))
        }
    }
}

/// A text of YAML: its escapes are a superset of JSON's.
fn written(key: &TenantKey) -> String {
    match key {
        TenantKey::Text(text) => serde_json::Value::from(text.as_str()).to_string(),
        TenantKey::Integer(number) => number.to_string(),
    }
}

/// That some tenants are held: a migration that changes their rows does not begin.
pub(crate) fn told_held(id: &MigrationId, held: &[(String, String)]) -> Option<Failure> {
    let why = |(name, why): &(String, String)| {
        if why.is_empty() { name.clone() } else { format!("{name} ({why})") }
    };
    let names = names(held.iter().map(why).collect());
    (!held.is_empty()).then(|| {
        let message = format!("{id} changes rows of tenants that are held: {names}");
        Failure::new(ErrorCode::PlanHeld, message, "start it once they are not held any more")
    })
}

fn texts(keys: &[TenantKey]) -> String {
    names(keys.iter().map(TenantKey::text).collect())
}

fn names(mut names: Vec<String>) -> String {
    let more = names.len().saturating_sub(NAMED);
    names.truncate(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", names.join(", "))
}

impl Tenancy {
    fn add(&mut self, spec: Spec, file: SpecFile) {
        self.specs.push(spec);
        self.files.push(file);
    }

    fn note(&mut self, id: &MigrationId, note: String) {
        self.notes.entry(id.clone()).or_default().push(note);
    }

    /// Adds to a plan what there is to say.
    pub fn tell(&self, plan: &mut Plan) {
        for planned in &mut plan.migrations {
            planned.notes.extend(self.notes.get(&planned.id).into_iter().flatten().cloned());
        }
        plan.findings.extend(self.findings.iter().cloned());
        plan.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    }

    /// What tenants want is not known, so nothing may be planned for them.
    pub fn unknown(&mut self, failure: Failure) {
        self.findings.push(Finding { severity: Severity::Error, failure });
    }

    /// Why migrations that would begin must not, since a tenant is held.
    pub fn held(&self) -> Vec<Failure> {
        let held = self.findings.iter().filter(|finding| finding.failure.code == ErrorCode::PlanHeld);
        held.map(|finding| finding.failure.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "id: m\nkind: data\nengine: postgres\ncluster: c\nsource: { table: t, where: not done, tenant: tid }\n\
                        transform: { sql: { done: \"true\" } }\n";

    fn of(text: &str, settings: &[(&str, TenantSettings)]) -> Tenancy {
        let file = SpecFile { name: "m.yaml".into(), text: text.to_owned() };
        let spec = spec::parse(&file).expect("a good spec");
        let settings =
            settings.iter().map(|(name, settings)| ((*name).to_owned(), settings.clone())).collect();
        apply(vec![spec], &[file], &BTreeMap::new(), &settings)
    }

    fn out() -> TenantSettings {
        TenantSettings { opt_out: true, ..TenantSettings::default() }
    }

    fn keys(tenancy: &Tenancy) -> Vec<String> {
        let tenants = tenancy.specs[0].tenants().expect("some");
        tenants.keys.iter().map(TenantKey::text).collect()
    }

    #[test]
    fn who_has_opted_out_is_left_out_and_the_content_stays_the_same_one() {
        let text = format!("{HEAD}tenants: [acme, \"b\\\"c\", 7]");
        let tenancy = of(&text, &[("b\"c", out()), ("7", out()), ("acme", TenantSettings::default())]);
        assert_eq!(keys(&tenancy), ["acme"]);
        assert!(tenancy.findings.is_empty(), "{:?}", tenancy.findings);
        assert!(tenancy.files[0].text.ends_with("left_out: [\"b\\\"c\", 7]\n"), "{}", tenancy.files[0].text);
        let before = spec::parse(&SpecFile { name: "m.yaml".into(), text }).expect("good");
        assert_eq!(tenancy.specs[0].checksum, before.checksum);
        assert_eq!(spec::parse(&tenancy.files[0]).expect("good"), tenancy.specs[0]);
        let notes = &tenancy.notes[&before.id];
        assert_eq!(notes[0], "left out, since they have opted out: b\"c, 7");
    }

    #[test]
    fn what_cannot_be_left_out_refuses_the_plan() {
        let everybody = of(&format!("{HEAD}tenants: [a]\n"), &[("a", out())]);
        assert!(everybody.findings[0].failure.message.contains("every tenant"), "{:?}", everybody.findings);
        let closed = of(&format!("{HEAD}tenants: [a, b]\n...\n"), &[("a", out())]);
        assert!(closed.findings[0].failure.message.contains("not written so"), "{:?}", closed.findings);
        assert!([&everybody, &closed].iter().all(|tenancy| tenancy.findings[0].severity == Severity::Error));
    }

    #[test]
    fn who_is_held_is_told_with_the_reason() {
        let held = TenantSettings { held: Some("audit".into()), ..TenantSettings::default() };
        let text = format!("{HEAD}tenants: [a, b, c]\n");
        let tenancy = of(&text, &[("a", held.clone()), ("b", TenantSettings { opt_out: true, ..held })]);
        let told = tenancy.held();
        assert_eq!(told.len(), 1);
        assert_eq!(
            (told[0].code, told[0].message.as_str()),
            (ErrorCode::PlanHeld, "m changes rows of tenants that are held: a (audit)")
        );
        assert_eq!(tenancy.findings[0].severity, Severity::Warning);
    }

    #[test]
    fn many_names_are_cut() {
        let all: Vec<String> = (0..12).map(|number| format!("t{number}")).collect();
        assert!(names(all).ends_with("t9 and 2 more"));
    }
}
