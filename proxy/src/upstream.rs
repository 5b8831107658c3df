//! One request to some endpoint of its route: pick, connect, send, and again elsewhere or later when that is safe.
//!
//! A container that is killed under load leaves a short time in which nobody has told us yet. Connections to it are
//! refused or reset, and then one of two things is waited for: a world in which it is gone, or a moment that passes.
//! Which failures are repeated at all is decided in [`Outgoing::may_retry`].

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::Response;
use tokio::time::Instant;

use crate::body::Incoming;
use crate::error::{Failure, Kind};
use crate::middleware::access_log::Record;
use crate::router::Found;
use crate::worker::{Current, Worker};
use crate::world::{Action, Candidate, Forwarding, Place, World};
use hold::{Permit, Woken};
pub(crate) use outgoing::Outgoing;
use pool::{Host, Lease};

pub(crate) mod balance;
pub(crate) mod connect;
pub(crate) mod external;
pub(crate) mod health;
pub(crate) mod hold;
mod outgoing;
pub(crate) mod pool;
mod silence;

/// Dead connections of one endpoint that a request tries before it makes a new one.
const STALE_MAX: u32 = 3;
/// Pause before the same endpoints are tried again; doubled each time.
const PAUSE: Duration = Duration::from_millis(10);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// The route of a request in one world.
pub(crate) struct Destination<'a> {
    pub(crate) world: Current,
    /// Place in the world's list.
    pub(crate) route: usize,
    /// For looking the route up again in the next world.
    pub(crate) host: &'a str,
    pub(crate) path: &'a str,
}

impl Destination<'_> {
    fn forwarding(&self) -> Option<&Forwarding> {
        match &self.world.routes.get(self.route)?.action {
            Action::Forward(forwarding) => Some(forwarding),
            Action::Redirect { .. } => None,
        }
    }

    /// The same request in the world as it is now.
    fn again(&mut self, worker: &Worker) -> Result<(), Failure> {
        let world = worker.world();
        let route = match world.router.find(self.host, self.path) {
            Found::Route(route) => route,
            Found::UnknownHost => return Err(Kind::UnknownHost(self.host.to_owned()).into()),
            Found::NoPath | Found::Ambiguous => return Err(Kind::NoRoute(self.host.to_owned()).into()),
        };
        let (before, now) = (&self.world.routes[self.route], &world.routes[route]);
        // Who was let in, and what the head has become, was decided by the route as it was.
        if !Arc::ptr_eq(&before.middleware, &now.middleware) || before.allow != now.allow {
            let why = "its route was changed while the request waited; ask again";
            return Err(Kind::Down(why.to_owned()).into());
        }
        (self.world, self.route) = (world, route);
        Ok(())
    }
}

/// Sends the request and returns the head of the answer. The lease is held while the answer's body is read.
pub(crate) async fn exchange(
    worker: &Worker,
    mut destination: Destination<'_>,
    outgoing: &mut Outgoing,
    record: &mut Record,
) -> Result<(Response<Incoming>, Lease), Failure> {
    let mut tried = Vec::new();
    let mut trouble: Option<Failure> = None;
    let mut waiting: Option<Waiting<'_>> = None;
    loop {
        let Some(forwarding) = destination.forwarding() else {
            return Err(Kind::NoRoute(destination.host.to_owned()).into());
        };
        if let Some((candidate, host)) = balance::pick(worker, forwarding, &tried) {
            match attempt(worker, candidate, &host, outgoing, record).await {
                Ok(done) => return Ok(done),
                Err(failure) if outgoing.may_retry(&failure) => {
                    tried.push(candidate.endpoint.uid);
                    trouble = Some(failure);
                    record.retried();
                    continue;
                }
                Err(failure) => return Err(failure),
            }
        }
        // Nobody is left to ask in this world.
        if forwarding.candidates.is_empty() && !forwarding.coming {
            let reason = forwarding
                .reason
                .clone()
                .unwrap_or_else(|| "no target".to_owned());
            return Err(Kind::Down(reason).into());
        }
        let Some(service) = forwarding.services.first() else {
            // Servers elsewhere: no snapshot will tell that they are back.
            return Err(trouble.unwrap_or_else(|| Kind::Down("no target".to_owned()).into()));
        };
        let waiting = match &mut waiting {
            Some(waiting) => waiting,
            none => none.insert(Waiting::begin(worker, service, &destination.world)?),
        };
        let pause = (!forwarding.candidates.is_empty()).then(|| waiting.pause());
        let woken = hold::wait(worker, destination.world.generation(), pause, waiting.deadline).await;
        record.held(waiting.since.elapsed());
        if woken == Woken::Deadline {
            let starting = || {
                Kind::Starting {
                    service: service.clone(),
                }
                .into()
            };
            return Err(trouble.unwrap_or_else(starting));
        }
        tried.clear();
        destination.again(worker)?;
    }
}

/// A request that is held.
struct Waiting<'a> {
    since: Instant,
    deadline: Instant,
    pause: Duration,
    _permit: Permit<'a>,
}

impl<'a> Waiting<'a> {
    fn begin(worker: &'a Worker, service: &str, world: &World) -> Result<Self, Failure> {
        let limits = world.limits();
        let permit = worker.shared.held.enter(service, limits);
        let permit = permit.ok_or_else(|| Kind::HoldFull {
            service: service.to_owned(),
        })?;
        let since = Instant::now();
        let deadline = since + Duration::from_millis(limits.hold_ms);
        Ok(Self {
            since,
            deadline,
            pause: PAUSE,
            _permit: permit,
        })
    }

    fn pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(PAUSE_MAX);
        pause
    }
}

/// Sends the request to one endpoint, over a connection that is there or a new one.
async fn attempt(
    worker: &Worker,
    candidate: &Candidate,
    host: &Rc<Host>,
    outgoing: &mut Outgoing,
    record: &mut Record,
) -> Result<(Response<Incoming>, Lease), Failure> {
    let mut lease = Lease::new(Rc::clone(host), candidate.port);
    let mut stale = 0;
    let started = std::time::Instant::now();
    record.upstream(host, candidate.port);
    loop {
        let known = if stale < STALE_MAX {
            reuse(worker, candidate, host, outgoing).await?
        } else {
            None
        };
        let reused = known.is_some();
        let mut connection = match known {
            Some(connection) => connection,
            None => match connect::connect(worker, host, candidate.port, outgoing.http2()).await {
                Ok(connection) => connection,
                Err(failure) => {
                    health::failed(worker, host, &failure);
                    return Err(failure);
                }
            },
        };
        let answer = answered(worker, candidate, outgoing, &mut connection).await;
        let failure = match answer {
            Ok(response) => {
                health::answered(host);
                record.upstream_answered(started.elapsed());
                lease.hold(connection);
                return Ok((response, lease));
            }
            Err(failure) => failure,
        };
        if reused && outgoing.may_retry(&failure) {
            stale += 1;
            record.retried();
            host.forget();
            continue;
        }
        // Whoever thinks for long is not ill.
        if !matches!(
            failure.kind,
            Kind::ClientGone | Kind::BodyTooLarge(_) | Kind::Silent { .. }
        ) {
            health::failed(worker, host, &failure);
        }
        return Err(failure);
    }
}

/// Sends the request and waits for its answer, but not for ever. In a conversation (gRPC) silence is normal.
async fn answered(
    worker: &Worker,
    candidate: &Candidate,
    outgoing: &mut Outgoing,
    connection: &mut pool::Connection,
) -> Result<Response<Incoming>, Failure> {
    let endpoint = &candidate.endpoint;
    if outgoing.http2() {
        return outgoing.send(connection, endpoint).await;
    }
    let limit = Duration::from_millis(worker.world().limits().response_ms);
    let progress = outgoing.progress();
    let sending = outgoing.send(connection, endpoint);
    let answer = silence::broken_by(sending, &progress, || tokio::time::sleep(limit)).await;
    answer.unwrap_or_else(|| {
        let endpoint = endpoint.id.clone();
        Err(Kind::Silent { endpoint }.into())
    })
}

async fn reuse(
    worker: &Worker,
    candidate: &Candidate,
    host: &Host,
    outgoing: &Outgoing,
) -> Result<Option<pool::Connection>, Failure> {
    if outgoing.http2() {
        return Ok(host.reuse_http2(candidate.port));
    }
    match &candidate.endpoint.place {
        Place::Container(_) => Ok(host.reuse(candidate.port, |_| true)),
        Place::External(external) => {
            let addresses = external::addresses(worker, external).await?;
            Ok(host.reuse(candidate.port, |peer| addresses.contains(&peer.ip())))
        }
    }
}
