//! Certificates for a broker's TLS listener and its clients, made anew for every broker.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

/// Files of one certificate authority and what it signed. The broker asks every client for a certificate.
#[derive(Clone, Debug)]
pub struct Tls {
    /// PEM of the authority: what a client trusts (`cafile`).
    pub ca: PathBuf,
    /// PEM certificate of a client that the broker trusts (`certfile`).
    pub client_cert: PathBuf,
    /// PEM key of that client, PKCS#8 without a password (`keyfile`).
    pub client_key: PathBuf,
    /// Certificate of a client that another authority signed: the broker turns it away.
    pub stranger_cert: PathBuf,
    /// Its key.
    pub stranger_key: PathBuf,
    /// The broker's key and certificate chain in one PEM file, as Kafka wants them.
    pub(super) server: PathBuf,
}

impl Tls {
    /// Makes all files in `dir`. The server is named `localhost` and 127.0.0.1.
    pub(super) fn make(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let tls = Self {
            ca: dir.join("ca.pem"),
            client_cert: dir.join("client.pem"),
            client_key: dir.join("client.key"),
            stranger_cert: dir.join("stranger.pem"),
            stranger_key: dir.join("stranger.key"),
            server: dir.join("server.pem"),
        };
        tls.write().map_err(io::Error::other)?;
        Ok(tls)
    }

    fn write(&self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let (ca_pem, ca) = authority("devour test authority")?;
        fs::write(&self.ca, &ca_pem)?;

        let mut server = CertificateParams::new(vec!["localhost".to_owned()])?;
        server
            .subject_alt_names
            .push(SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        let (cert, key) = signed(server, "broker", ExtendedKeyUsagePurpose::ServerAuth, &ca)?;
        fs::write(&self.server, format!("{key}{cert}{ca_pem}"))?;

        let (cert, key) = signed(
            CertificateParams::default(),
            "client",
            ExtendedKeyUsagePurpose::ClientAuth,
            &ca,
        )?;
        fs::write(&self.client_cert, cert)?;
        fs::write(&self.client_key, key)?;

        let (_, other) = authority("nobody's authority")?;
        let (cert, key) = signed(
            CertificateParams::default(),
            "stranger",
            ExtendedKeyUsagePurpose::ClientAuth,
            &other,
        )?;
        fs::write(&self.stranger_cert, cert)?;
        fs::write(&self.stranger_key, key)?;
        Ok(())
    }
}

fn authority(name: &str) -> Result<(String, Issuer<'static, KeyPair>), rcgen::Error> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate()?;
    let cert = params.self_signed(&key)?;
    Ok((cert.pem(), Issuer::new(params, key)))
}

/// A certificate and its key, both PEM.
fn signed(
    mut params: CertificateParams,
    name: &str,
    usage: ExtendedKeyUsagePurpose,
    issuer: &Issuer<'static, KeyPair>,
) -> Result<(String, String), rcgen::Error> {
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    let key = KeyPair::generate()?;
    Ok((params.signed_by(&key, issuer)?.pem(), key.serialize_pem()))
}
