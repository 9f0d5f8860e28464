//! Certificates and keys in PEM form, as files.

use std::io;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// No file of certificates comes near: a bundle of all public authorities is 250 kB.
const LARGEST: u64 = 4 << 20;

/// Why files cannot be used. No word of a key is in it.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{file} cannot be read: {error}")]
    Unreadable {
        /// Which.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file is too large to be what it should be.
    #[error("{file} is larger than 4 MiB: it is no file of certificates")]
    TooLarge {
        /// Which.
        file: PathBuf,
    },
    /// A file has no certificate in PEM form, or a damaged one.
    #[error("there is no certificate in PEM form in {file}, or a damaged one")]
    NoCertificate {
        /// Which.
        file: PathBuf,
    },
    /// A file has no private key in PEM form.
    #[error("there is no private key in PEM form in {file}")]
    NoKey {
        /// Which.
        file: PathBuf,
    },
    /// They do not fit together, or cannot be used.
    #[error("{file} cannot be used: {why}")]
    Unfit {
        /// The one to look at first.
        file: PathBuf,
        /// Why.
        why: String,
    },
}

impl TlsError {
    pub(super) fn unfit(file: &Path, why: impl std::fmt::Display) -> Self {
        Self::Unfit { file: file.to_owned(), why: why.to_string() }
    }
}

/// All of a small file.
pub(super) fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    let unreadable = |error| TlsError::Unreadable { file: file.to_owned(), error };
    // A pipe or a device would never end.
    let about = std::fs::metadata(file).map_err(unreadable)?;
    if about.len() > LARGEST {
        return Err(TlsError::TooLarge { file: file.to_owned() });
    }
    std::fs::read(file).map_err(unreadable)
}

/// The certificates of a file, at least one, in their order.
pub(super) fn certificates(file: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    all.ok().filter(|all| !all.is_empty()).ok_or_else(|| TlsError::NoCertificate { file: file.to_owned() })
}

/// The first private key of a file.
pub(super) fn key(file: &Path, pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| TlsError::NoKey { file: file.to_owned() })
}

/// The authorities of a file.
pub(super) fn roots(file: &Path, pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file, pem)? {
        roots.add(certificate).map_err(|why| TlsError::unfit(file, why))?;
    }
    Ok(roots)
}
