//! The caller's token on every call, as `authorization: Bearer …`.

use std::fmt;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};

/// Puts a token on calls; or none, where a coordinator asks for none. Never shown.
#[derive(Clone, Default)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

/// A token that no header can carry. Holds no part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a token is one word of visible ASCII characters")]
pub struct NoToken;

impl Bearer {
    /// This token.
    pub fn new(token: &str) -> Result<Self, NoToken> {
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(NoToken);
        }
        let mut value: MetadataValue<Ascii> = format!("Bearer {token}").parse().map_err(|_| NoToken)?;
        value.set_sensitive(true);
        Ok(Self(Some(value)))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "[redacted]" } else { "none" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_with_the_call_and_is_never_shown() {
        let mut bearer = Bearer::new("canary-4711").expect("a token");
        let request = bearer.call(Request::new(())).expect("passes");
        assert_eq!(request.metadata().get("authorization").expect("there"), "Bearer canary-4711");
        assert!(!format!("{bearer:?} {request:?}").contains("4711"));
        for wrong in ["", "two words", "line\nend", "ü"] {
            assert_eq!(Bearer::new(wrong).err(), Some(NoToken), "{wrong:?}");
        }
        let request = Bearer::default().call(Request::new(())).expect("passes");
        assert!(request.metadata().is_empty());
    }
}
