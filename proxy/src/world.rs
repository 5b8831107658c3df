//! A snapshot of the feed compiled for serving: one lookup from a request to the endpoints it may go to.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};

use http::{HeaderValue, StatusCode, Uri};
use ipnetwork::IpNetwork;
use linkspan_api::feed::{self, Forward, Limits, Service, Snapshot, SocketId, SocketKind, Target, ToNetd};
use linkspan_site::HostPattern;
use rustls::pki_types::ServerName;
use tokio::sync::mpsc;

use crate::middleware::Middleware;
use crate::router::Router;
use crate::tls::resolver::{Certificates, Keyring};

/// What every worker serves from. Immutable; the next one replaces it as a whole.
#[derive(Debug)]
pub(crate) struct World {
    /// The snapshot it was made from, without the certificates: keys live in one place only.
    pub(crate) snapshot: Snapshot,
    pub(crate) router: Router,
    pub(crate) routes: Vec<Route>,
    pub(crate) certificates: Certificates,
    /// Uids of all endpoints that may be sent requests.
    live: HashSet<u64>,
    /// Places in the snapshot's list of forwards.
    forwards: HashMap<(SocketKind, SocketAddr), usize>,
    /// Is there an https listener that plain requests can be sent to?
    pub(crate) has_https: bool,
}

/// A route with its targets looked up.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) allow: Vec<IpNetwork>,
    pub(crate) action: Action,
    pub(crate) middleware: Arc<Middleware>,
}

/// What a route does.
#[derive(Debug)]
pub(crate) enum Action {
    Forward(Forwarding),
    Redirect {
        to: String,
        /// `to` is only scheme and authority: path and query of the request are appended.
        append: bool,
        status: StatusCode,
    },
}

/// The endpoints behind a route, those of all its targets.
#[derive(Debug, Default)]
pub(crate) struct Forwarding {
    pub(crate) candidates: Vec<Candidate>,
    /// Ids of the services among the targets.
    pub(crate) services: Vec<String>,
    /// None is ready, but one is coming.
    pub(crate) coming: bool,
    /// Why none is ready and none is coming.
    pub(crate) reason: Option<String>,
}

/// An endpoint and the port to talk to.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) port: u16,
}

/// Something to connect to, under a number that is never used for anything else.
///
/// One that moves to another address gets another number, so that everything new goes there, while what is under way
/// ends where it began.
#[derive(Debug)]
pub(crate) struct Endpoint {
    /// Stands for id, generation and addresses together; keys of pools and counters.
    pub(crate) uid: u64,
    pub(crate) id: String,
    pub(crate) place: Place,
    /// Absent for what netd doesn't stop.
    _farewell: Option<Arc<Farewell>>,
}

/// Tells netd that an endpoint is drained.
///
/// Whoever may still send an endpoint something, or waits for something from it, holds it: a world in use, a request
/// under way, an open tunnel. All that ever stood for the same id and generation, one after the other at different
/// addresses, share this. So the moment in which it is dropped is the moment in which the endpoint is drained.
#[derive(Debug)]
struct Farewell {
    id: String,
    generation: u64,
    netd: mpsc::Sender<ToNetd>,
}

impl Drop for Farewell {
    fn drop(&mut self) {
        let drained = ToNetd::Drained {
            endpoint: std::mem::take(&mut self.id),
            generation: self.generation,
        };
        // When too many hints wait, netd's own time limit decides.
        self.netd.try_send(drained).ok();
    }
}

/// Where an endpoint is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A container, reached from the resolver's namespace.
    Container(Vec<IpAddr>),
    /// A server elsewhere, reached from the host's.
    External(External),
}

/// A server elsewhere.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct External {
    pub(crate) host: String,
    /// The Host field it is sent: its own, with the port where that isn't the scheme's.
    pub(crate) host_field: HeaderValue,
    /// The name its certificate must be for; `None` without TLS.
    pub(crate) tls: Option<ServerName<'static>>,
}

impl World {
    /// Serves nothing; the state before the first snapshot.
    pub(crate) fn empty() -> Self {
        Compiler::default().compile(Snapshot::default())
    }

    /// Of the snapshot.
    pub(crate) fn generation(&self) -> u64 {
        self.snapshot.generation
    }

    /// Limits and times.
    pub(crate) fn limits(&self) -> &Limits {
        &self.snapshot.limits
    }

    /// What is published on this socket.
    pub(crate) fn forward(&self, socket: &SocketId) -> Option<&Forward> {
        let place = self.forwards.get(&(socket.kind, socket.address))?;
        self.snapshot.forwards.get(*place)
    }

    /// May this endpoint still be sent requests?
    pub(crate) fn is_live(&self, uid: u64) -> bool {
        self.live.contains(&uid)
    }

    /// The public https port.
    pub(crate) fn https_port(&self) -> u16 {
        match self.snapshot.https_port {
            0 => 443,
            port => port,
        }
    }
}

type Middlewares = HashMap<(String, HostPattern, String), Arc<Middleware>>;

/// Makes worlds of snapshots and remembers what lives on from one to the next: endpoints and parsed keys.
#[derive(Debug, Default)]
pub(crate) struct Compiler {
    endpoints: HashMap<(String, u64), Arc<Endpoint>>,
    next_uid: u64,
    /// Those of the routes that have any, by project, host and path.
    middlewares: Middlewares,
    plain: Arc<Middleware>,
    keyring: Keyring,
    /// Those not yet said, also of endpoints that have left.
    farewells: HashMap<(String, u64), Weak<Farewell>>,
    /// Where drained endpoints are told of.
    netd: Option<mpsc::Sender<ToNetd>>,
}

impl Compiler {
    /// One whose endpoints tell netd when they are drained.
    pub(crate) fn telling(netd: mpsc::Sender<ToNetd>) -> Self {
        Self {
            netd: Some(netd),
            ..Self::default()
        }
    }

    /// Compiles a snapshot. What can't be used (a broken certificate, a redirect to nowhere) is left out and logged:
    /// one bad item must not take the others down.
    pub(crate) fn compile(&mut self, mut snapshot: Snapshot) -> World {
        let certificates = self.keyring.load(std::mem::take(&mut snapshot.certificates));
        let mut seen = HashMap::new();
        let mut kept = Vec::with_capacity(snapshot.routes.len());
        let mut middlewares = HashMap::new();
        for route in &snapshot.routes {
            let middleware = self.middleware(route, &mut middlewares);
            if let Some(action) = self.action(&route.action, &snapshot, &mut seen) {
                kept.push((
                    route,
                    Route {
                        allow: route.allow.clone(),
                        action,
                        middleware,
                    },
                ));
            }
        }
        let router = Router::new(kept.iter().map(|(route, _)| (&route.host, route.path.as_str())));
        let routes = kept.into_iter().map(|(_, route)| route).collect();
        let has_https = snapshot.listeners.iter().any(|id| id.kind == SocketKind::Https);
        self.endpoints = seen;
        self.middlewares = middlewares;
        self.farewells.retain(|_, farewell| farewell.strong_count() > 0);
        let place = |(place, forward): (usize, &Forward)| ((forward.kind, forward.address), place);
        let forwards = snapshot.forwards.iter().enumerate().map(place).collect();
        let live = self.endpoints.values().map(|endpoint| endpoint.uid).collect();
        World {
            snapshot,
            router,
            routes,
            certificates,
            live,
            forwards,
            has_https,
        }
    }

    fn middleware(&self, route: &feed::Route, seen: &mut Middlewares) -> Arc<Middleware> {
        if route.middleware == linkspan_site::Middleware::default() {
            return Arc::clone(&self.plain);
        }
        let key = (route.project.clone(), route.host.clone(), route.path.clone());
        let compiled = Middleware::compile(&route.middleware, self.middlewares.get(&key));
        seen.insert(key, Arc::clone(&compiled));
        compiled
    }

    fn action(
        &mut self,
        action: &feed::Action,
        snapshot: &Snapshot,
        seen: &mut HashMap<(String, u64), Arc<Endpoint>>,
    ) -> Option<Action> {
        match action {
            feed::Action::Forward(targets) => Some(Action::Forward(self.forwarding(targets, snapshot, seen))),
            feed::Action::Redirect { to, status } => {
                let uri = to.parse::<Uri>().ok().filter(|uri| uri.scheme().is_some());
                let status = StatusCode::from_u16(*status)
                    .ok()
                    .filter(StatusCode::is_redirection);
                let (Some(uri), Some(status)) = (uri, status) else {
                    tracing::warn!(%to, status = ?status, "redirect left out: not an absolute URL or not a 3xx");
                    return None;
                };
                let bare = uri.path() == "/" && uri.query().is_none() && !to.ends_with('/');
                Some(Action::Redirect {
                    to: to.clone(),
                    append: bare,
                    status,
                })
            }
        }
    }

    fn forwarding(
        &mut self,
        targets: &[Target],
        snapshot: &Snapshot,
        seen: &mut HashMap<(String, u64), Arc<Endpoint>>,
    ) -> Forwarding {
        let mut forwarding = Forwarding::default();
        for target in targets {
            match target {
                Target::Service { id, port } => {
                    forwarding.services.push(id.clone());
                    let Some(service) = snapshot.services.get(id) else {
                        forwarding
                            .reason
                            .get_or_insert_with(|| format!("`{id}` does not exist"));
                        continue;
                    };
                    forwarding.coming |= service.coming;
                    self.service(id, service, *port, &mut forwarding, seen);
                }
                Target::Url { tls, host, port } => {
                    let Some(external) = external(*tls, host, *port) else {
                        tracing::warn!(%host, "target left out: not a host name or an address");
                        continue;
                    };
                    let scheme = if *tls { "https" } else { "http" };
                    let key = (format!("{scheme}://{host}:{port}"), 0);
                    let endpoint = self.endpoint(key, Place::External(external), seen);
                    forwarding.candidates.push(Candidate {
                        endpoint,
                        port: *port,
                    });
                }
            }
        }
        forwarding
    }

    fn service(
        &mut self,
        id: &str,
        service: &Service,
        port: u16,
        forwarding: &mut Forwarding,
        seen: &mut HashMap<(String, u64), Arc<Endpoint>>,
    ) {
        for endpoint in &service.endpoints {
            let key = (endpoint.id.clone(), endpoint.generation);
            let endpoint = self.endpoint(key, Place::Container(endpoint.addresses.clone()), seen);
            forwarding.candidates.push(Candidate { endpoint, port });
        }
        if service.endpoints.is_empty() && forwarding.reason.is_none() {
            let why = service.reason.as_deref().unwrap_or("not running");
            forwarding.reason = Some(format!("`{id}` is down: {why}"));
        }
    }

    /// The endpoint of that name, the same one as in the snapshot before if nothing about it changed.
    fn endpoint(
        &mut self,
        key: (String, u64),
        place: Place,
        seen: &mut HashMap<(String, u64), Arc<Endpoint>>,
    ) -> Arc<Endpoint> {
        let before = seen
            .get(&key)
            .or_else(|| self.endpoints.get(&key))
            .filter(|e| e.place == place);
        let endpoint = before.cloned().unwrap_or_else(|| {
            self.next_uid += 1;
            Arc::new(Endpoint {
                uid: self.next_uid,
                id: key.0.clone(),
                _farewell: matches!(place, Place::Container(_))
                    .then(|| self.farewell(&key))
                    .flatten(),
                place,
            })
        });
        seen.insert(key, Arc::clone(&endpoint));
        endpoint
    }

    /// The one that all endpoints of this name share.
    fn farewell(&mut self, key: &(String, u64)) -> Option<Arc<Farewell>> {
        let netd = self.netd.clone()?;
        if let Some(known) = self.farewells.get(key).and_then(Weak::upgrade) {
            return Some(known);
        }
        let farewell = Arc::new(Farewell {
            id: key.0.clone(),
            generation: key.1,
            netd,
        });
        self.farewells.insert(key.clone(), Arc::downgrade(&farewell));
        Some(farewell)
    }
}

fn external(tls: bool, host: &str, port: u16) -> Option<External> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let written = if bare.contains(':') {
        format!("[{bare}]")
    } else {
        bare.to_owned()
    };
    let usual = if tls { 443 } else { 80 };
    let field = if port == usual {
        written
    } else {
        format!("{written}:{port}")
    };
    let name = ServerName::try_from(bare.to_owned()).ok()?;
    Some(External {
        host: bare.to_owned(),
        host_field: HeaderValue::from_str(&field).ok()?,
        tls: tls.then_some(name),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn snapshot(endpoints: Vec<feed::Endpoint>) -> Snapshot {
        let service = Service {
            endpoints,
            coming: false,
            reason: None,
        };
        Snapshot {
            routes: vec![feed::Route {
                project: "p".into(),
                host: linkspan_site::HostPattern::Exact("a.test".into()),
                path: "/".into(),
                action: feed::Action::Forward(vec![Target::Service {
                    id: "p/web".into(),
                    port: 80,
                }]),
                allow: vec![],
                middleware: linkspan_site::Middleware::default(),
            }],
            services: BTreeMap::from([("p/web".to_owned(), service)]),
            ..Snapshot::default()
        }
    }

    fn uids(world: &World) -> Vec<u64> {
        let Action::Forward(forwarding) = &world.routes[0].action else {
            panic!("not a forward")
        };
        forwarding.candidates.iter().map(|c| c.endpoint.uid).collect()
    }

    #[test]
    fn an_endpoint_keeps_its_number_until_it_changes_and_the_number_is_never_used_again() {
        let endpoint = |id: &str, generation, address: &str| feed::Endpoint {
            id: id.into(),
            generation,
            addresses: vec![address.parse().unwrap()],
        };
        let mut compiler = Compiler::default();
        let first = compiler.compile(snapshot(vec![
            endpoint("a", 1, "10.0.0.2"),
            endpoint("b", 1, "10.0.0.3"),
        ]));
        let second = compiler.compile(snapshot(vec![
            endpoint("b", 1, "10.0.0.3"),
            endpoint("a", 2, "10.0.0.2"),
        ]));
        assert_eq!(uids(&second)[0], uids(&first)[1]);
        assert_ne!(uids(&second)[1], uids(&first)[0]);
        let third = compiler.compile(snapshot(vec![]));
        let fourth = compiler.compile(snapshot(vec![endpoint("b", 1, "10.0.0.3")]));
        assert!(uids(&third).is_empty());
        assert!(!uids(&first).contains(&uids(&fourth)[0]));
        assert!(!second.is_live(uids(&first)[0]) && second.is_live(uids(&first)[1]));
    }

    #[test]
    fn an_endpoint_that_moves_is_another_one_and_is_drained_only_when_all_its_addresses_are() {
        let at = |address: &str| feed::Endpoint {
            id: "a".into(),
            generation: 1,
            addresses: vec![address.parse().unwrap()],
        };
        let (netd, mut told) = mpsc::channel(8);
        let mut compiler = Compiler::telling(netd);
        let first = compiler.compile(snapshot(vec![at("10.0.0.2")]));
        let second = compiler.compile(snapshot(vec![at("10.1.0.2")]));
        assert!(!second.is_live(uids(&first)[0]));
        let Action::Forward(forwarding) = &first.routes[0].action else {
            panic!("not a forward")
        };
        let under_way = Arc::clone(&forwarding.candidates[0].endpoint);
        drop(first);
        let third = compiler.compile(snapshot(vec![]));
        drop(second);
        assert!(
            told.try_recv().is_err(),
            "something is under way at the old address"
        );
        // It comes back for a moment, and still it is the same one.
        let fourth = compiler.compile(snapshot(vec![at("10.2.0.2")]));
        drop((under_way, third));
        assert!(told.try_recv().is_err(), "it is listed");
        drop((compiler, fourth));
        let drained = ToNetd::Drained {
            endpoint: "a".into(),
            generation: 1,
        };
        assert_eq!(told.try_recv(), Ok(drained));
        assert!(told.try_recv().is_err(), "and said once");
    }
}
