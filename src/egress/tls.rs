//! TLS of tunnels to hosts that get a credential: a session's own authority towards the hands, real verification towards
//! the host.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use abca_core::egress::Host;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, NameConstraints,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

/// HTTP/1.1 and nothing else: requests are read one by one.
const ALPN: &[u8] = b"http/1.1";

/// Why tunnels cannot be looked into.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the egress proxy cannot speak TLS: {0}")]
pub struct TlsError(String);

/// Speaks TLS to hosts, which have to prove who they are.
#[derive(Clone)]
pub(crate) struct Verified {
    connector: TlsConnector,
    authorities: Vec<CertificateDer<'static>>,
}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified").field("authorities", &self.authorities.len()).finish_non_exhaustive()
    }
}

impl Verified {
    /// By the system's authorities and those of the files (PEM).
    ///
    /// # Errors
    /// [`TlsError`] when a file cannot be read or there is no authority at all.
    pub(crate) fn new(files: &[String]) -> Result<Self, TlsError> {
        let mut authorities = rustls_native_certs::load_native_certs().certs;
        for file in files {
            let unread =
                |e: rustls::pki_types::pem::Error| TlsError(format!("authorities in `{file}` cannot be read: {e}"));
            let before = authorities.len();
            for certificate in CertificateDer::pem_file_iter(file).map_err(unread)? {
                authorities.push(certificate.map_err(unread)?);
            }
            if authorities.len() == before {
                return Err(TlsError(format!("`{file}` holds no certificate")));
            }
        }
        let mut roots = RootCertStore::empty();
        // Systems carry old ones that nobody can read.
        roots.add_parsable_certificates(authorities.iter().cloned());
        if roots.is_empty() {
            return Err(TlsError("this machine knows no certificate authority: install `ca-certificates`".to_owned()));
        }
        let mut client = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|e| TlsError(e.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.alpn_protocols = vec![ALPN.to_vec()];
        // Nobody is to be recognised from one request to the next, and no key is to be kept.
        client.resumption = rustls::client::Resumption::disabled();
        Ok(Self { connector: TlsConnector::from(Arc::new(client)), authorities })
    }

    /// TLS towards a host, which has to be it.
    pub(crate) async fn connect<S>(&self, host: &Host, stream: S) -> std::io::Result<client::TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = match host {
            Host::Name(name) => ServerName::try_from(name.clone()).map_err(std::io::Error::other)?,
            Host::Address(address) => ServerName::from(*address),
        };
        self.connector.connect(name, stream).await
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Speaks TLS to both sides of a tunnel. Its authority lives as long as it does, its key in memory only; it is constrained to
/// the hosts that it is for.
pub struct Interception {
    acceptors: BTreeMap<Host, TlsAcceptor>,
    verified: Verified,
    bundle: String,
}

impl fmt::Debug for Interception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interception")
            .field("hosts", &self.acceptors.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl Interception {
    /// For tunnels to these hosts. Hosts are verified by the system's authorities and those of the files (PEM).
    ///
    /// # Errors
    /// [`TlsError`] when a file cannot be read or there is no authority at all.
    pub fn new(hosts: &[Host], files: &[String]) -> Result<Self, TlsError> {
        let verified = Verified::new(files)?;
        let failed = |e: rcgen::Error| TlsError(e.to_string());
        let key = KeyPair::generate().map_err(failed)?;
        let params = authority(hosts);
        let own = params.self_signed(&key).map_err(failed)?.der().clone();
        let issuer = Issuer::new(params, key);
        let mut acceptors = BTreeMap::new();
        for host in hosts {
            let server = |e: rustls::Error| TlsError(format!("`{host}`: {e}"));
            let key = KeyPair::generate().map_err(failed)?;
            let leaf = leaf(host).map_err(failed)?.signed_by(&key, &issuer).map_err(failed)?;
            let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|e| TlsError(e.to_owned()))?;
            let mut config = ServerConfig::builder_with_provider(provider())
                .with_safe_default_protocol_versions()
                .map_err(server)?
                .with_no_client_auth()
                .with_single_cert(vec![leaf.der().clone(), own.clone()], key)
                .map_err(server)?;
            config.alpn_protocols = vec![ALPN.to_vec()];
            acceptors.insert(host.clone(), TlsAcceptor::from(Arc::new(config)));
        }
        let bundle = verified.authorities.iter().chain([&own]).map(pem).collect();
        Ok(Self { acceptors, verified, bundle })
    }

    /// What the hands are to trust, as PEM: what this machine trusts, and this session's authority.
    pub fn bundle(&self) -> &str {
        &self.bundle
    }

    /// TLS towards the hands.
    pub(super) async fn accept<S>(&self, host: &Host, stream: S) -> std::io::Result<server::TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let acceptor = self.acceptors.get(host).ok_or_else(|| std::io::Error::other("no certificate for the host"))?;
        acceptor.accept(stream).await
    }

    /// TLS towards the host, which has to be it.
    pub(super) async fn connect<S>(&self, host: &Host, stream: S) -> std::io::Result<client::TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.verified.connect(host, stream).await
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn authority(hosts: &[Host]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("abca egress proxy, this session only");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let names = hosts.iter().filter_map(|host| match host {
        Host::Name(name) => Some(GeneralSubtree::DnsName(name.clone())),
        Host::Address(_) => None,
    });
    let permitted_subtrees: Vec<GeneralSubtree> = names.collect();
    // With an address among them names alone would permit every address, so there is nothing to gain.
    if permitted_subtrees.len() == hosts.len() {
        params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
    }
    params
}

fn leaf(host: &Host) -> Result<CertificateParams, rcgen::Error> {
    let name = match host {
        Host::Name(name) => name.clone(),
        Host::Address(address) => address.to_string(),
    };
    let mut params = CertificateParams::new(vec![name])?;
    params.distinguished_name = named("abca egress proxy");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    let text = STANDARD.encode(certificate);
    let mut out = "-----BEGIN CERTIFICATE-----\n".to_owned();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = more;
    }
    out.push_str("-----END CERTIFICATE-----\n");
    out
}
