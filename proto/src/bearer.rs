//! The caller's token on every call, as `authorization: Bearer …`.

use std::fmt;
use std::net::IpAddr;

use tonic::codegen::http::Uri;
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

    /// Whether there is one.
    pub fn is_there(&self) -> bool {
        self.0.is_some()
    }

    /// Whether it may be sent there: over TLS, or within this machine. Anywhere else whoever listens to the network has it.
    pub fn may_go_to(&self, address: &Uri) -> bool {
        !self.is_there() || address.scheme_str() == Some("https") || is_here(address)
    }
}

fn is_here(address: &Uri) -> bool {
    let host = address.host().unwrap_or_default();
    let number = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || number.is_ok_and(|number| number.is_loopback())
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

    #[test]
    fn a_token_does_not_leave_this_machine_in_plain() {
        let bearer = Bearer::new("canary").expect("a token");
        let address = |text: &str| text.parse::<Uri>().expect("an address");
        for text in [
            "https://coordinator.example:7400",
            "https://10.0.0.1:7400",
            "http://127.0.0.1:7400",
            "http://127.8.9.1:7400",
            "http://[::1]:7400",
            "http://LocalHost:7400",
        ] {
            assert!(bearer.may_go_to(&address(text)), "{text}");
        }
        for text in [
            "http://10.0.0.1:7400",
            "http://coordinator.example:7400",
            "http://localhost.example:7400",
            "http://127.0.0.1.example:7400",
            "http://[2001:db8::1]:7400",
            "http://0.0.0.0:7400",
            "10.0.0.1:7400",
        ] {
            assert!(!bearer.may_go_to(&address(text)), "{text}");
            assert!(Bearer::default().may_go_to(&address(text)), "there is nothing to be overheard");
        }
    }
}
