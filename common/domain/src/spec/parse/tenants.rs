//! `tenants` and `source.tenant`: whose rows alone are in scope. Each needs the other.

use crate::routing::{KeyKind, MAX_KEY_TEXT};
use crate::spec::yaml::{Mark, Node, Scalar, Value};
use crate::spec::{Engine, TenantKey, Tenants};

use super::context::Context;
use super::data::column;
use super::fields::Fields;
use super::scalars::text;

/// Most tenants of a spec.
const MAX_TENANTS: usize = 1000;

/// What `tenants` says: where it stands, the tenants if they can be read, and those of them that are left out. `None`: all.
pub(super) type Wanted = Option<(Mark, Option<Split>)>;

/// Those whose rows are changed, and those that have opted out.
pub(super) struct Split {
    keys: Vec<TenantKey>,
    left_out: Vec<TenantKey>,
}

/// Reads `tenants`.
pub(super) fn wanted(ctx: &mut Context, fields: &Fields<'_>) -> Wanted {
    let out = fields.get("left_out");
    let Some(node) = fields.get("tenants").filter(|node| !is_word(node, "all")) else {
        if let Some(out) = out {
            ctx.invalid(out.at, "left_out says who of `tenants` has opted out, and there is no `tenants`");
        }
        return None;
    };
    let named = keys(ctx, node, "tenants");
    let out = match out {
        Some(out) => keys(ctx, out, "left_out").map(|keys| (out.at, keys)),
        None => Some((node.at, Vec::new())),
    };
    Some((node.at, named.zip(out).and_then(|(named, (at, out))| split(ctx, at, named, out))))
}

fn split(ctx: &mut Context, at: Mark, named: Vec<TenantKey>, left_out: Vec<TenantKey>) -> Option<Split> {
    if let Some(stranger) = left_out.iter().find(|key| !named.contains(key)) {
        ctx.invalid(at, format!("left_out names {stranger}, which is not among `tenants`"));
        return None;
    }
    let keys: Vec<TenantKey> = named.into_iter().filter(|key| !left_out.contains(key)).collect();
    if keys.is_empty() {
        ctx.invalid(at, "left_out names all of `tenants`: nobody is left");
        return None;
    }
    Some(Split { keys, left_out })
}

/// Reads `source.tenant` and puts both together. `Some(None)`: the rows of all tenants.
pub(super) fn read(
    ctx: &mut Context,
    source: &Fields<'_>,
    wanted: Wanted,
    engine: Engine,
) -> Option<Option<Tenants>> {
    let field = source.get("tenant").filter(|node| !is_word(node, "none"));
    let field = field.map(|node| name(ctx, node, engine));
    match (wanted, field) {
        (None, None) => Some(None),
        (Some((at, _)), None) => {
            ctx.invalid(at, "tenants needs source.tenant: the column or field that holds the tenant");
            None
        }
        (None, Some(_)) => {
            let at = source.place("tenant");
            ctx.invalid(at, "source.tenant says what `tenants` selects by, and there is no `tenants`");
            None
        }
        (Some((_, split)), Some(field)) => {
            let Split { keys, left_out } = split?;
            Some(Some(Tenants { field: field?, keys, left_out }))
        }
    }
}

fn is_word(node: &Node, word: &str) -> bool {
    matches!(&node.value, Value::Scalar(Scalar::Text(text, _)) if text == word)
}

fn name(ctx: &mut Context, node: &Node, engine: Engine) -> Option<String> {
    let found = text(ctx, node, "source.tenant")?;
    match engine {
        Engine::Postgres => column(ctx, node, found, "source.tenant"),
        Engine::Mongodb => {
            let parts = || found.split('.');
            if parts().any(|part| part.is_empty() || part.starts_with('$')) || found.contains('\0') {
                ctx.invalid(node.at, format!("source.tenant {found:?} is not the path of a field"));
                return None;
            }
            Some(found.to_owned())
        }
    }
}

fn keys(ctx: &mut Context, node: &Node, what: &str) -> Option<Vec<TenantKey>> {
    let Value::Sequence(items) = &node.value else {
        let message = format!("{what} must be a list of tenants or the word all, not {}", node.describe());
        ctx.invalid(node.at, message);
        return None;
    };
    if items.is_empty() || items.len() > MAX_TENANTS {
        ctx.invalid(node.at, format!("{what} must name 1 to {MAX_TENANTS} tenants; leave it out for all"));
        return None;
    }
    let mut keys: Vec<TenantKey> = Vec::new();
    for item in items {
        let Some(key) = key(ctx, item) else { continue };
        if keys.contains(&key) {
            ctx.invalid(item.at, format!("{what} names {key} twice"));
        } else {
            keys.push(key);
        }
    }
    Some(keys)
}

fn key(ctx: &mut Context, node: &Node) -> Option<TenantKey> {
    if let Value::Scalar(Scalar::Int(number)) = &node.value {
        return Some(TenantKey::Integer(*number));
    }
    let found = text(ctx, node, "a tenant")?;
    match KeyKind::Text.parse(found) {
        Ok(_) => Some(TenantKey::Text(found.to_owned())),
        Err(error) => {
            ctx.invalid(
                node.at,
                format!("a tenant must be a text of 1 to {MAX_KEY_TEXT} bytes: {}", error.why),
            );
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::spec::{Spec, SpecFile, SpecProblems, TenantKey, parse};

    fn spec(tenants: &str, tenant: &str) -> Result<Spec, SpecProblems> {
        let text = format!(
            "id: a\nkind: data\nengine: postgres\ncluster: c\n{tenants}\nsource: {{ table: t, where: not m{tenant} }}\n\
             transform: {{ sql: {{ m: \"true\" }} }}\n"
        );
        parse(&SpecFile { name: "a.yaml".into(), text })
    }

    #[test]
    fn tenants_are_texts_and_numbers_and_count_for_the_checksum_whatever_their_order() {
        let one = spec("tenants: [acme, 7]", ", tenant: tenant_id").expect("good");
        let tenants = one.tenants().expect("some").clone();
        assert_eq!(tenants.field, "tenant_id");
        assert_eq!(tenants.keys, [TenantKey::Text("acme".into()), TenantKey::Integer(7)]);
        let other = spec("tenants: [7, acme]", ", tenant: tenant_id").expect("good");
        assert_eq!(one.checksum, other.checksum);
        let all = spec("", "").expect("good");
        assert_ne!(one.checksum, all.checksum);
        assert_eq!(spec("tenants: all", ", tenant: none").expect("good").checksum, all.checksum);
        let text = spec("tenants: [acme, \"7\"]", ", tenant: tenant_id").expect("good");
        assert_ne!(text.checksum, one.checksum, "a text is another tenant than the number");
    }

    #[test]
    fn who_has_opted_out_is_not_of_the_content() {
        let all = spec("tenants: [acme, 7]", ", tenant: tenant_id").expect("good");
        let some = spec("tenants: [acme, 7]\nleft_out: [7]", ", tenant: tenant_id").expect("good");
        assert_eq!(some.checksum, all.checksum);
        let tenants = some.tenants().expect("some");
        assert_eq!(tenants.keys, [TenantKey::Text("acme".into())]);
        assert_eq!(tenants.left_out, [TenantKey::Integer(7)]);
    }

    #[test]
    fn each_needs_the_other_and_every_mistake_is_told() {
        for (tenants, tenant, complaint) in [
            ("tenants: [a]", "", "needs source.tenant"),
            ("", ", tenant: x", "there is no `tenants`"),
            ("tenants: []", ", tenant: x", "1 to 1000"),
            ("tenants: [a, a]", ", tenant: x", "twice"),
            ("tenants: a", ", tenant: x", "must be a list"),
            ("tenants: [1.5]", ", tenant: x", "must be a text"),
            ("tenants: [a]", ", tenant: x.y", "source.tenant"),
            ("tenants: [a]\nleft_out: [b]", ", tenant: x", "not among"),
            ("tenants: [a]\nleft_out: [a]", ", tenant: x", "nobody is left"),
            ("left_out: [a]", "", "there is no `tenants`"),
        ] {
            let problems = spec(tenants, tenant).expect_err(tenants).to_string();
            assert!(problems.contains(complaint), "{tenants} {tenant}: {problems}");
        }
    }
}
