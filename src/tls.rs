//! Whom to trust: the authorities of this machine, and those of `[tls] ca_file`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Certificate, Client, ClientBuilder, redirect};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;

/// For a connection to be made.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes ring the process's provider of TLS cryptography. Once is enough, more does no harm.
pub fn install() {
    // It fails when a provider is there already, which is all that is wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Authorities trusted besides those of this machine.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    pem: Arc<[u8]>,
    certificates: Vec<Certificate>,
}

#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    #[error("the `ca_file` of [tls], {}, cannot be read", .0.display())]
    Unreadable(PathBuf, #[source] io::Error),
    #[error("the `ca_file` of [tls], {}, is not one or more certificates in PEM form", .0.display())]
    NoCertificate(PathBuf),
}

impl Trust {
    /// Reads the certificates in a file, one or more, in PEM form.
    pub fn load(ca_file: Option<&Path>) -> Result<Trust, TrustError> {
        let Some(path) = ca_file else { return Ok(Trust::default()) };
        let pem =
            std::fs::read(path).map_err(|error| TrustError::Unreadable(path.to_owned(), error))?;
        let unusable = || TrustError::NoCertificate(path.to_owned());
        let mut certificates = Vec::new();
        for der in CertificateDer::pem_slice_iter(&pem) {
            let der = der.map_err(|_| unusable())?;
            // Looked at here, where the file can be named.
            RootCertStore::empty().add(der.clone()).map_err(|_| unusable())?;
            certificates.push(Certificate::from_der(&der).map_err(|_| unusable())?);
        }
        if certificates.is_empty() {
            return Err(unusable());
        }
        Ok(Trust { pem: pem.into(), certificates })
    }

    /// A client that follows no redirect, asks no proxy, and says nothing of where it has been.
    pub fn client(&self) -> ClientBuilder {
        install();
        Client::builder()
            .redirect(redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .tls_certs_merge(self.certificates.iter().cloned())
    }

    /// For a connection that is not HTTP.
    ///
    /// # Errors
    /// This machine's authorities cannot be found.
    pub fn client_config(&self) -> Result<ClientConfig, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let extra = CertificateDer::pem_slice_iter(&self.pem).filter_map(Result::ok);
        let verifier = Verifier::new_with_extra_roots(extra, Arc::clone(&provider))?;
        Ok(ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth())
    }

    /// The file as it was read; empty where there is none.
    pub fn pem(&self) -> &[u8] {
        &self.pem
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let error = Trust::load(Some(&path)).unwrap_err();
        assert!(matches!(error, TrustError::Unreadable(..)), "{error}");
        for text in ["", "not PEM", "-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n"]
        {
            std::fs::write(&path, text).unwrap();
            let error = Trust::load(Some(&path)).unwrap_err();
            assert!(matches!(error, TrustError::NoCertificate(_)), "{text:?}: {error}");
        }
        assert!(Trust::load(None).unwrap().pem().is_empty());
    }
}
