//! Which coordinators are asked, and how they are reached.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use shardlift_client::{Bearer, Client, Coordinators};
use shardlift_domain::{ErrorCode, Failure};
use shardlift_runtime::config::{Secret, read_secret, variable};
use shardlift_runtime::tls::Dial;

use crate::contexts::{Context, Contexts};

/// Where nothing else is said.
const HERE: &str = "127.0.0.1:7400";

/// Where the help lists the flags that every verb takes: below those of the verb itself.
pub(crate) const OF_EVERY_VERB: &str = "Options of every verb";

/// The flags that every verb takes.
#[derive(Debug, Args)]
#[command(next_help_heading = OF_EVERY_VERB)]
pub(crate) struct Reach {
    /// Where a coordinator listens; else that of the present context, else 127.0.0.1:7400.
    ///
    /// With https:// before it if it wants TLS. Any of them answers. Several: give it again, or write commas between them.
    #[arg(
        long,
        global = true,
        value_name = "HOST:PORT",
        env = "SHARDLIFT_COORDINATOR",
        hide_env_values = true,
        value_delimiter = ','
    )]
    pub(crate) coordinator: Vec<String>,

    /// The installation to ask, by its name: see shardlift context.
    #[arg(long, global = true, value_name = "NAME", env = "SHARDLIFT_CONTEXT", hide_env_values = true)]
    context: Option<String>,

    /// The authorities that may have signed the coordinators' certificates, a file in PEM form; else those of this machine.
    ///
    /// Addresses without a scheme are then dialled over TLS.
    #[arg(long, global = true, value_name = "FILE", env = "SHARDLIFT_CA", hide_env_values = true)]
    ca: Option<PathBuf>,

    /// The name that the coordinators' certificates are for, if it is not the host that is dialled.
    #[arg(long, global = true, value_name = "NAME", env = "SHARDLIFT_SERVER_NAME", hide_env_values = true)]
    server_name: Option<String>,

    /// Your own certificate, a file in PEM form, if the coordinators ask for one; with --client-key.
    #[arg(long, global = true, value_name = "FILE", env = "SHARDLIFT_CERTIFICATE", hide_env_values = true)]
    client_certificate: Option<PathBuf>,

    /// The private key of --client-certificate, a file in PEM form.
    #[arg(long, global = true, value_name = "FILE", env = "SHARDLIFT_KEY", hide_env_values = true)]
    client_key: Option<PathBuf>,

    /// A file that holds your token, where coordinators ask for one; instead of the variable SHARDLIFT_TOKEN.
    #[arg(long, global = true, value_name = "FILE", env = "SHARDLIFT_TOKEN_FILE", hide_env_values = true)]
    token_file: Option<PathBuf>,

    /// How long to try while no coordinator answers, or none leads; 0: each is tried once.
    #[arg(
        long,
        global = true,
        value_name = "SECONDS",
        env = "SHARDLIFT_WAIT",
        hide_env_values = true,
        default_value_t = 30
    )]
    pub(crate) wait: u64,
}

impl Reach {
    /// How long to try.
    pub(crate) fn patience(&self) -> Duration {
        Duration::from_secs(self.wait)
    }

    /// A client of these coordinators.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        let context = self.chosen()?;
        let dial = dial(&context)?;
        let here = [HERE.to_owned()];
        let texts = if context.coordinators.is_empty() { &here[..] } else { &context.coordinators };
        let coordinators =
            if dial.is_plain() { Coordinators::parse(texts) } else { Coordinators::parse_secure(texts) };
        let coordinators = coordinators.map_err(Failure::from)?;
        let bearer = token(context.token_file.as_deref())?;
        Ok(Client::new(coordinators, self.patience()).over(dial).with_token(bearer))
    }

    /// What the flags say, to be kept under a name.
    pub(crate) fn context(&self) -> Result<Context, Failure> {
        let told = self.over(Context::default());
        dial(&told)?;
        if told.coordinators.is_empty() {
            let next = "say --coordinator HOST:PORT, several with commas between them";
            return Err(Failure::new(ErrorCode::RequestInvalid, "a context needs its coordinators", next));
        }
        Coordinators::parse(&told.coordinators).map_err(Failure::from)?;
        Ok(told)
    }

    /// The context that is named, or the present one unless coordinators are named; over it, what the flags say.
    fn chosen(&self) -> Result<Context, Failure> {
        let below = match &self.context {
            Some(name) => Contexts::read()?.find(name)?.clone(),
            None if self.coordinator.is_empty() => Contexts::read()?.present()?.cloned().unwrap_or_default(),
            None => Context::default(),
        };
        Ok(self.over(below))
    }

    fn over(&self, below: Context) -> Context {
        Context {
            coordinators: if self.coordinator.is_empty() {
                below.coordinators
            } else {
                self.coordinator.clone()
            },
            ca: self.ca.clone().or(below.ca),
            server_name: self.server_name.clone().or(below.server_name),
            certificate: self.client_certificate.clone().or(below.certificate),
            key: self.client_key.clone().or(below.key),
            token_file: self.token_file.clone().or(below.token_file),
        }
    }
}

/// The file wins over the variable: it was named for this call, or for this installation.
fn token(file: Option<&Path>) -> Result<Bearer, Failure> {
    let secret = match file {
        Some(file) => {
            Some(read_secret("token", None, Some(file)).map_err(|error| no_token(&error.to_string()))?)
        }
        None => variable("SHARDLIFT_TOKEN").map(Secret::new),
    };
    let bearer = secret.map(|secret| Bearer::new(secret.expose().trim())).transpose();
    Ok(bearer.map_err(|error| no_token(&error.to_string()))?.unwrap_or_default())
}

fn no_token(why: &str) -> Failure {
    let next = "name a file that holds nothing but the token (--token-file), or set SHARDLIFT_TOKEN";
    Failure::new(ErrorCode::RequestInvalid, format!("the token: {why}"), next)
}

fn dial(context: &Context) -> Result<Dial, Failure> {
    if context.certificate.is_some() != context.key.is_some() {
        let next = "give --client-certificate and --client-key together";
        let message = "a certificate needs its key, and a key its certificate";
        return Err(Failure::new(ErrorCode::ConfigInvalid, message, next));
    }
    let identity = context.certificate.clone().zip(context.key.clone());
    Ok(Dial { ca: context.ca.clone(), server_name: context.server_name.clone(), identity })
}
