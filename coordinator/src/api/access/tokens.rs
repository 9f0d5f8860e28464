//! Tokens that the configuration knows, by their SHA-256: what is presented is hashed, and the hash is compared with every
//! one that is known, in a time that does not depend on which of them fits.

use sha2::{Digest, Sha256};
use shardlift_domain::principal::Principal;
use subtle::ConstantTimeEq;

/// SHA-256 of a token.
pub type TokenHash = [u8; 32];

/// A token and whose it is.
#[derive(Clone, PartialEq, Eq)]
pub struct KnownToken {
    /// Its hash.
    pub hash: TokenHash,
    /// Whose.
    pub principal: Principal,
}

impl std::fmt::Debug for KnownToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KnownToken").field("principal", &self.principal).finish_non_exhaustive()
    }
}

/// The hash of a token.
pub fn hash(token: &str) -> TokenHash {
    Sha256::digest(token.as_bytes()).into()
}

/// Whose token has this hash.
pub(super) fn owner<'a>(known: &'a [KnownToken], presented: &TokenHash) -> Option<&'a Principal> {
    let mut found = None;
    for one in known {
        if bool::from(one.hash.ct_eq(presented)) {
            found = Some(&one.principal);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use shardlift_domain::principal::{Reach, Role};

    use super::*;

    #[test]
    fn a_token_names_its_owner_and_nobody_else() {
        let known: Vec<_> = ["mira", "olaf"]
            .map(|name| KnownToken {
                hash: hash(&format!("token of {name}")),
                principal: Principal::new(name, Role::Viewer, Reach::Nothing).expect("valid"),
            })
            .into();
        assert_eq!(owner(&known, &hash("token of olaf")).map(Principal::name), Some("olaf"));
        for wrong in ["", "token of", "token of mira ", "TOKEN OF MIRA"] {
            assert_eq!(owner(&known, &hash(wrong)), None, "{wrong:?}");
        }
        assert!(!format!("{known:?}").contains("hash"));
    }
}
