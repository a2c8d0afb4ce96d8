//! Whom to trust: the authorities of this machine, and those of `[tls] ca_file`.
//!
//! To read those of the machine takes longer than all else that a start does, and a copy for each
//! client takes a MiB. So it is done once, when the first server shows its certificate.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::{Client, ClientBuilder, redirect};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_platform_verifier::Verifier;

/// For a connection to be made.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes ring the process's provider of TLS cryptography. Once is enough, more does no harm.
pub fn install() {
    // It fails when a provider is there already, which is all that is wanted.
    let _ = ring::default_provider().install_default();
}

/// Authorities trusted besides those of this machine.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    pem: Arc<[u8]>,
    authorities: Arc<Authorities>,
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
            certificates.push(der);
        }
        if certificates.is_empty() {
            return Err(unusable());
        }
        let authorities = Authorities { more: certificates, ..Authorities::default() };
        Ok(Trust { pem: pem.into(), authorities: Arc::new(authorities) })
    }

    /// A client that follows no redirect, asks no proxy, and says nothing of where it has been.
    pub fn client(&self) -> ClientBuilder {
        let mut config = self.client_config();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Client::builder()
            .redirect(redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .tls_backend_preconfigured(config)
    }

    /// For a connection that is not HTTP.
    pub fn client_config(&self) -> ClientConfig {
        install();
        ClientConfig::builder()
            .dangerous()
            .with_custom_certificate_verifier(self.authorities.clone())
            .with_no_client_auth()
    }

    /// The file as it was read; empty where there is none.
    pub fn pem(&self) -> &[u8] {
        &self.pem
    }
}

/// Those of the machine, read when they are first asked for, and `more`.
#[derive(Debug)]
struct Authorities {
    provider: Arc<CryptoProvider>,
    more: Vec<CertificateDer<'static>>,
    verifier: OnceLock<Verifier>,
}

impl Default for Authorities {
    fn default() -> Self {
        let provider = Arc::new(ring::default_provider());
        Authorities { provider, more: Vec::new(), verifier: OnceLock::new() }
    }
}

impl Authorities {
    /// Where they cannot be read it is tried again the next time.
    fn verifier(&self) -> Result<&Verifier, Error> {
        if let Some(verifier) = self.verifier.get() {
            return Ok(verifier);
        }
        let more = self.more.iter().cloned();
        let verifier = Verifier::new_with_extra_roots(more, self.provider.clone())?;
        Ok(self.verifier.get_or_init(|| verifier))
    }
}

impl ServerCertVerifier for Authorities {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verifier = self.verifier()?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
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
