//! Linkspan's own certificate authority, and the certificates that it signs.
//!
//! The authority's key is in the store; keys of certificates live in memory only and go to the proxy over the feed.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use linkspan_api::feed::Certificate;
use linkspan_site::HostPattern;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};

/// Browsers refuse leaves that live longer than 398 days; ours are made anew at every start anyway.
const LEAF_LIFE: Duration = Duration::from_secs(90 * 86_400);
const AUTHORITY_LIFE: Duration = Duration::from_secs(3_650 * 86_400);
/// Clocks of clients may lag.
const BACKDATED: Duration = Duration::from_secs(86_400);

/// A certificate could not be made.
#[derive(Debug, thiserror::Error)]
#[error("the certificate for `{name}` can't be made")]
pub struct CertError {
    name: String,
    #[source]
    source: rcgen::Error,
}

/// The authority, and the leaves that it signed since netd started.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    leaves: BTreeMap<String, (SystemTime, Certificate)>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes an authority; answers it and its PEM (certificate and key) for the store.
    pub(crate) fn create(seed: u64) -> Result<(Self, String), CertError> {
        let key = KeyPair::generate().map_err(authority_failed)?;
        let params = authority_params(seed);
        let certificate = params.self_signed(&key).map_err(authority_failed)?.pem();
        let stored = format!("{certificate}{}", key.serialize_pem());
        Ok((
            Self {
                issuer: Issuer::new(params, key),
                certificate,
                leaves: BTreeMap::new(),
            },
            stored,
        ))
    }

    /// Reads what [`Authority::create`] wrote for the same seed.
    pub(crate) fn read(stored: &str, seed: u64) -> Result<Self, CertError> {
        let split = stored.find("-----BEGIN PRIVATE KEY-----").unwrap_or(stored.len());
        let (certificate, key) = stored.split_at(split);
        let key = KeyPair::from_pem(key).map_err(authority_failed)?;
        // An issuer is its name and its key; both are as they were, so what it signs chains to the same certificate.
        let issuer = Issuer::new(authority_params(seed), key);
        Ok(Self {
            issuer,
            certificate: certificate.to_owned(),
            leaves: BTreeMap::new(),
        })
    }

    /// The authority's certificate, PEM.
    pub(crate) fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A certificate for a host of a route, made at first use and again when two thirds of its life are over.
    pub(crate) fn leaf(&mut self, host: &HostPattern) -> Result<Certificate, CertError> {
        let name = match host {
            HostPattern::Exact(name) => name.clone(),
            HostPattern::Wildcard(name) => format!("*.{name}"),
            HostPattern::Default => "*".to_owned(),
        };
        let now = SystemTime::now();
        if let Some((made, leaf)) = self.leaves.get(&name)
            && now.duration_since(*made).is_ok_and(|age| age < LEAF_LIFE * 2 / 3)
        {
            return Ok(leaf.clone());
        }
        let failed = |source| CertError {
            name: name.clone(),
            source,
        };
        let key = KeyPair::generate().map_err(failed)?;
        // No public name stands for all hosts: who comes by another name than `localhost` sees the mismatch.
        let subject = if name == "*" {
            "localhost".to_owned()
        } else {
            name.clone()
        };
        let mut params = CertificateParams::new(vec![subject]).map_err(failed)?;
        params.distinguished_name = DistinguishedName::new();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.not_before = (now - BACKDATED).into();
        params.not_after = (now + LEAF_LIFE).into();
        let signed = params.signed_by(&key, &self.issuer).map_err(failed)?;
        let leaf = Certificate {
            hosts: vec![name.clone()],
            chain: signed.pem(),
            key: key.serialize_pem(),
        };
        self.leaves.insert(name, (now, leaf.clone()));
        Ok(leaf)
    }
}

fn authority_params(seed: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "Linkspan");
    params
        .distinguished_name
        .push(DnType::CommonName, format!("Linkspan CA {:08x}", seed as u32));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let now = SystemTime::now();
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + AUTHORITY_LIFE).into();
    params
}

fn authority_failed(source: rcgen::Error) -> CertError {
    CertError {
        name: "the authority".to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_read_back_signs_under_the_same_certificate() {
        let (made, stored) = Authority::create(1).unwrap();
        let mut read = Authority::read(&stored, 1).unwrap();
        assert_eq!(made.certificate(), read.certificate());
        let host = HostPattern::Exact("a.test".to_owned());
        let leaf = read.leaf(&host).unwrap();
        assert_eq!(leaf.hosts, ["a.test"]);
        assert_eq!(leaf, read.leaf(&host).unwrap(), "a leaf is made once");
        assert!(!format!("{leaf:?}").contains("PRIVATE"));
    }
}
