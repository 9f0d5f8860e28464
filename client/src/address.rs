//! Where a coordinator listens. It holds no secret, so it may be shown; what might hold one is refused unseen.

use std::fmt;
use std::str::FromStr;

use shardlift_domain::{ErrorCode, Failure};
use shardlift_runtime::route::Route;
use tonic::transport::Uri;

/// An address such as `http://127.0.0.1:7400` or `https://coordinator-1.example:7400`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address(Uri);

/// Why a text is not an address. The text itself is left out: a password may be in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It cannot be read as a URL with a host and a port.
    #[error("the coordinator's address must look like http://host:7400")]
    Malformed,
    /// Another scheme than `http` and `https`.
    #[error("the coordinator's address must begin with http:// or https://, or with neither")]
    Scheme,
    /// It carries a user name or a password.
    #[error("the coordinator's address must not hold a user name or a password")]
    Credentials,
    /// Something follows the port.
    #[error("the coordinator's address must end after the port")]
    Path,
}

/// The coordinators that may be asked, at least one.
#[derive(Debug, Clone)]
pub struct Coordinators(Route<Address>);

impl Coordinators {
    /// Reads addresses; each text may hold several, with commas between them. Those without a scheme are dialled in plain.
    pub fn parse<T: AsRef<str>>(texts: &[T]) -> Result<Self, AddressError> {
        Self::read(texts, "http")
    }

    /// The same, and those without a scheme are dialled over TLS.
    pub fn parse_secure<T: AsRef<str>>(texts: &[T]) -> Result<Self, AddressError> {
        Self::read(texts, "https")
    }

    fn read<T: AsRef<str>>(texts: &[T], scheme: &str) -> Result<Self, AddressError> {
        let texts = texts.iter().flat_map(|text| text.as_ref().split(','));
        let addresses: Vec<Address> =
            texts.map(|text| Address::read(text, scheme)).collect::<Result<_, _>>()?;
        Route::new(addresses).map(Self).ok_or(AddressError::Malformed)
    }

    pub(crate) fn into_route(self) -> Route<Address> {
        self.0
    }
}

impl From<Address> for Coordinators {
    fn from(address: Address) -> Self {
        Self(Route::of(address))
    }
}

impl From<AddressError> for Failure {
    fn from(error: AddressError) -> Self {
        Failure::new(
            ErrorCode::RequestInvalid,
            error.to_string(),
            "give --coordinator host:port, or set SHARDLIFT_COORDINATOR; commas between several",
        )
    }
}

impl Address {
    pub(crate) fn uri(&self) -> Uri {
        self.0.clone()
    }

    /// Another coordinator, reached the same way as this one.
    pub(crate) fn neighbour(&self, place: &str) -> Option<Self> {
        Self::read(place, self.scheme()).ok()
    }

    fn scheme(&self) -> &str {
        self.0.scheme_str().unwrap_or("http")
    }

    /// `otherwise`: the scheme of a text that has none.
    fn read(text: &str, otherwise: &str) -> Result<Self, AddressError> {
        let text = text.trim();
        let text = if text.contains("://") { text.to_owned() } else { format!("{otherwise}://{text}") };
        let uri: Uri = text.parse().map_err(|_| AddressError::Malformed)?;
        let authority = uri.authority().ok_or(AddressError::Malformed)?;
        if authority.as_str().contains('@') {
            return Err(AddressError::Credentials);
        }
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(AddressError::Scheme);
        }
        if authority.host().is_empty() || authority.port_u16().is_none() {
            return Err(AddressError::Malformed);
        }
        if uri.path_and_query().is_some_and(|rest| rest.as_str() != "/") {
            return Err(AddressError::Path);
        }
        Ok(Self(uri))
    }
}

impl FromStr for Address {
    type Err = AddressError;

    /// Reads `http://host:port`, `https://host:port`, or `host:port` for the former.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::read(text, "http")
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme(), self.0.authority().map_or("", |authority| authority.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_leave_out_its_scheme() {
        for text in ["127.0.0.1:7400", "http://127.0.0.1:7400", " http://127.0.0.1:7400/ "] {
            let address: Address = text.parse().expect(text);
            assert_eq!(address.to_string(), "http://127.0.0.1:7400");
        }
        assert_eq!("[::1]:7400".parse::<Address>().expect("IPv6").to_string(), "http://[::1]:7400");
    }

    #[test]
    fn several_are_written_with_commas_or_given_one_by_one() {
        let coordinators = Coordinators::parse(&["a:1,b:2", " c:3 "]).expect("three");
        let mut route = coordinators.into_route();
        let dialled = [(); 4].map(|()| {
            let now = route.current().to_string();
            route.failed(None);
            now
        });
        assert_eq!(dialled, ["http://a:1", "http://b:2", "http://c:3", "http://a:1"]);
        for wrong in [&["a:1,"][..], &["a:1,b"], &[""], &[]] {
            assert_eq!(Coordinators::parse(wrong).err(), Some(AddressError::Malformed), "{wrong:?}");
        }
    }

    #[test]
    fn who_is_named_by_a_coordinator_is_reached_the_same_way() {
        for (known, expected) in [("http://a:1", "http://b:2"), ("https://a:1", "https://b:2")] {
            let address: Address = known.parse().expect(known);
            assert_eq!(address.neighbour("b:2").map(|named| named.to_string()).as_deref(), Some(expected));
        }
        let secure = Coordinators::parse_secure(&["a:1,http://b:2"]).expect("two").into_route();
        assert_eq!(secure.current().to_string(), "https://a:1");
    }

    #[test]
    fn a_wrong_address_is_refused_with_the_reason() {
        let cases = [
            ("", AddressError::Malformed),
            ("localhost", AddressError::Malformed),
            ("http://", AddressError::Malformed),
            ("http://:7400", AddressError::Malformed),
            ("ftp://localhost:7400", AddressError::Scheme),
            ("http://me:secret@localhost:7400", AddressError::Credentials),
            ("http://localhost:7400/path", AddressError::Path),
        ];
        for (text, reason) in cases {
            assert_eq!(text.parse::<Address>(), Err(reason), "{text}");
            assert!(!reason.to_string().contains("secret"));
        }
    }
}
