//! Makes the transformer that a spec asks for.
//!
//! # A transformer of your own
//!
//! 1. Write one file in this directory, with a type that implements [`Transformer`], a `pub const NAME: &str`, and
//!    `pub(super) fn build(options: &mut Options<'_>) -> Arc<dyn Transformer>`, which reads its options
//!    (`channel.rs` is a short example). Declare it in `mod.rs`.
//! 2. Add one line to [`REGISTRY`].
//!
//! Then `transform: { transformer: { name: yours, options: { … } } }` works in a spec. It must be pure: verification and
//! recovery rely on the same document giving the same result on every worker. An error must hold no value of the row.

use std::sync::Arc;

use shardlift_domain::capability::Capabilities;
use shardlift_domain::spec::Transform;
use shardlift_domain::{ErrorCode, Failure};

use super::options::{Options, did_you_mean};
use super::vrl::Vrl;
use super::{Transformer, channel, message, tenant};

/// Reads the options and makes the transformer. Problems are left in the options.
type Build = fn(&mut Options<'_>) -> Arc<dyn Transformer>;

/// Every compiled-in transformer: the word in the spec and what makes it.
const REGISTRY: &[(&str, Build)] =
    &[(message::NAME, message::build), (tenant::NAME, tenant::build), (channel::NAME, channel::build)];

/// What this worker can do, transformers included.
pub fn capabilities() -> Capabilities {
    Capabilities::of_this_release(REGISTRY.iter().map(|(name, _)| *name))
}

/// The transformer of a spec; `None` if its transform runs in the shard. Fails with [`ErrorCode::TransformInvalid`].
pub fn build(transform: &Transform) -> Result<Option<Arc<dyn Transformer>>, Failure> {
    match transform {
        Transform::Sql(_) | Transform::Pipeline(_) => Ok(None),
        Transform::Vrl(source) => match Vrl::compile(source) {
            Ok(program) => Ok(Some(Arc::new(program))),
            Err(refused) => Err(invalid(
                format!("the VRL program is refused: {refused}"),
                "mend the program under transform.vrl; docs/transformers.md says what it may not do",
            )),
        },
        Transform::Named { name, options } => named(name, options).map(Some),
    }
}

fn named(name: &str, options: &serde_json::Value) -> Result<Arc<dyn Transformer>, Failure> {
    let Some((_, build)) = REGISTRY.iter().find(|(known, _)| *known == name) else {
        let known: Vec<&str> = REGISTRY.iter().map(|(known, _)| *known).collect();
        let hint = did_you_mean(name, &known).map(|hint| format!("; {hint}")).unwrap_or_default();
        return Err(invalid(
            format!("there is no transformer `{name}`{hint}"),
            format!("use one that this worker has: {}", known.join(", ")),
        ));
    };
    let mut options = Options::of(options);
    let transformer = build(&mut options);
    match options.finish() {
        Ok(()) => Ok(transformer),
        Err(problems) => Err(invalid(
            format!("transformer `{name}`: {}", problems.join("; ")),
            "mend transform.transformer.options; docs/transformers.md lists the options",
        )),
    }
}

fn invalid(message: String, next: impl Into<String>) -> Failure {
    Failure::new(ErrorCode::TransformInvalid, message, next)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;
    use shardlift_domain::spec::{SpecBody, SpecFile, parse};

    use super::*;

    fn named(name: &str, options: serde_json::Value) -> Result<Option<Arc<dyn Transformer>>, Failure> {
        build(&Transform::Named { name: name.to_owned(), options })
    }

    fn refusal(result: Result<Option<Arc<dyn Transformer>>, Failure>) -> Failure {
        match result {
            Ok(_) => panic!("was accepted"),
            Err(failure) => failure,
        }
    }

    #[test]
    fn transforms_that_run_in_the_shard_have_no_transformer() {
        assert!(build(&Transform::Sql(vec![])).expect("sql").is_none());
        assert!(build(&Transform::Pipeline(vec![])).expect("pipeline").is_none());
    }

    #[test]
    fn every_registered_name_is_built_without_options() {
        for (name, _) in REGISTRY {
            let built = named(name, json!({})).expect("no option is required").expect("runs in the worker");
            assert_eq!(built.name(), *name);
        }
        let built =
            build(&Transform::Vrl(".a = 1".to_owned())).expect("compiles").expect("runs in the worker");
        assert_eq!(built.name(), "vrl");
    }

    #[test]
    fn an_unknown_name_is_told_what_there_is() {
        let failure = refusal(named("mesage", json!({})));
        assert_eq!(failure.code, ErrorCode::TransformInvalid);
        assert_eq!(failure.message, "there is no transformer `mesage`; did you mean `message`?");
        assert_eq!(failure.next, "use one that this worker has: message, tenant, channel");
    }

    #[test]
    fn an_unknown_option_is_refused_with_a_hint() {
        let failure = refusal(named("message", json!({"txt_field": "text", "version": "2"})));
        assert_eq!(
            failure.message,
            "transformer `message`: option `version` must be a whole number, not text; \
             unknown option `txt_field` (did you mean `text_field`?)"
        );
    }

    #[test]
    fn every_transform_of_the_example_library_is_built() {
        let mut built = 0;
        for engine in ["postgres", "mongodb"] {
            let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations/data").join(engine);
            for entry in std::fs::read_dir(&directory).expect("the example library") {
                let path = entry.expect("a readable directory").path();
                let text = std::fs::read_to_string(&path).expect("a readable file");
                let file = SpecFile { name: path.display().to_string(), text };
                let spec = parse(&file).unwrap_or_else(|problems| panic!("{}: {problems:?}", file.name));
                let SpecBody::Data(data) = spec.body else { continue };
                let transformer =
                    build(&data.transform).unwrap_or_else(|failure| panic!("{}: {failure:?}", file.name));
                built += u32::from(transformer.is_some());
            }
        }
        assert!(built >= 4, "only {built} of them run in the worker");
    }

    #[test]
    fn a_program_that_does_not_compile_is_refused_with_its_place() {
        let failure = refusal(build(&Transform::Vrl(".a = 1\n.b = nowhere(2)".to_owned())));
        assert_eq!(failure.code, ErrorCode::TransformInvalid);
        assert!(failure.message.contains("line 2, column 6"), "{}", failure.message);
    }
}
