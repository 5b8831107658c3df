//! SNI to certificate: the exact name, then the wildcard one label up, then a certificate for `*` if there is one.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use linkspan_api::feed;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::world::World;

/// A certificate in use.
#[derive(Debug)]
pub(crate) struct Identity {
    key: Arc<CertifiedKey>,
    hosts: Vec<String>,
}

impl Identity {
    /// May requests for this host come over a connection that was shown this certificate?
    pub(crate) fn covers(&self, host: &str) -> bool {
        let parent = host.split_once('.').map(|(_, parent)| parent);
        self.hosts.iter().any(|name| {
            name == host || name == "*" || (parent.is_some() && name.strip_prefix("*.") == parent)
        })
    }
}

/// All certificates of a snapshot, by name.
#[derive(Debug, Default)]
pub(crate) struct Certificates {
    exact: HashMap<String, Arc<Identity>>,
    /// By the name without `*.`.
    wildcard: HashMap<String, Arc<Identity>>,
    any: Option<Arc<Identity>>,
}

impl Certificates {
    /// The certificate for a server name; the one for `*` when there is no name.
    pub(crate) fn find(&self, name: Option<&str>) -> Option<&Arc<Identity>> {
        let named = name.and_then(|name| {
            let parent = name
                .split_once('.')
                .and_then(|(_, parent)| self.wildcard.get(parent));
            self.exact.get(name).or(parent)
        });
        named.or(self.any.as_ref())
    }

    fn insert(&mut self, identity: &Arc<Identity>) {
        for host in &identity.hosts {
            let place = match host.strip_prefix("*.") {
                Some(parent) => self.wildcard.entry(parent.to_owned()),
                None if host == "*" => {
                    self.any.get_or_insert_with(|| Arc::clone(identity));
                    continue;
                }
                None => self.exact.entry(host.clone()),
            };
            place.or_insert_with(|| Arc::clone(identity));
        }
    }
}

/// Parsed keys by the text of their chains, so that an unchanged certificate is parsed once.
#[derive(Default)]
pub(crate) struct Keyring(HashMap<String, (String, Arc<CertifiedKey>)>);

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring")
            .field("certificates", &self.0.len())
            .finish()
    }
}

/// Why a certificate can't be used.
#[derive(Debug, thiserror::Error)]
enum CertificateError {
    #[error("the chain or the key is not PEM")]
    Pem(#[from] pem::Error),
    #[error("the key does not fit the certificate or is of an unknown kind")]
    Key(#[from] rustls::Error),
}

impl Keyring {
    /// Indexes the certificates of a snapshot. A broken one is left out and logged.
    pub(crate) fn load(&mut self, certificates: Vec<feed::Certificate>) -> Certificates {
        let mut before = std::mem::take(&mut self.0);
        let mut index = Certificates::default();
        for feed::Certificate { hosts, chain, key } in certificates {
            let known = before.remove(&chain).filter(|(text, _)| *text == key);
            let parsed = known.map_or_else(|| parse(&chain, &key), |(_, parsed)| Ok(parsed));
            match parsed {
                Ok(parsed) => {
                    index.insert(&Arc::new(Identity {
                        key: Arc::clone(&parsed),
                        hosts,
                    }));
                    self.0.insert(chain, (key, parsed));
                }
                Err(error) => {
                    let error = linkspan_telemetry::chain(&error);
                    tracing::warn!(?hosts, %error, "certificate left out");
                }
            }
        }
        index
    }
}

fn parse(chain: &str, key: &str) -> Result<Arc<CertifiedKey>, CertificateError> {
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())?;
    Ok(Arc::new(CertifiedKey::from_der(
        chain,
        key,
        &aws_lc_rs::default_provider(),
    )?))
}

/// Asks the world as it is at the moment of the handshake.
pub(crate) struct FromWorld(pub(crate) Arc<ArcSwap<World>>);

impl fmt::Debug for FromWorld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FromWorld")
    }
}

impl ResolvesServerCert for FromWorld {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let world = self.0.load();
        world
            .certificates
            .find(hello.server_name())
            .map(|identity| Arc::clone(&identity.key))
    }
}
