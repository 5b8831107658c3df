//! One request, start to finish.
//!
//! The client's connection hands over a request head and a body that can be read; what goes back is a response head and
//! a body that reads from the upstream as fast as the client takes it. Which version of HTTP either side speaks is not
//! known here. Between the two nothing is buffered but what a second try may need, so a slow side slows the other down,
//! and nothing else.
//!
//! The order is fixed, and each step sees what the one before has made sure of:
//!
//! 1. **Name.** Which host and path is meant? One Host field, well-formed, the same as the authority. Methods that
//!    are about the proxy itself end here.
//! 2. **World.** The snapshot is loaded once; the request lives in that generation, unless it has to wait for a newer.
//! 3. **Route.** The TLS connection must be one for this host (421), a plain one is sent to https, the router picks by
//!    host and longest path, the route's list of client networks is asked. A route that redirects ends here, and so
//!    does who may not enter.
//! 4. **Head.** Fields of the connection go, and so does all that the client claims about itself; what we know is
//!    written instead. From here on the head does not change.
//! 5. **Exchange.** `upstream` finds an endpoint, waits for one that is coming, repeats what may be repeated, and
//!    returns the head of the answer together with a lease on the connection.
//! 6. **Answer.** The fields of that connection go; a 101 becomes a tunnel; else the body is relayed, and the lease
//!    goes back to the pool when its end was seen. An answer that breaks off is broken off towards the client too.
//!
//! The [`Record`] is begun first and travels inside the response body, so that whatever happens (a reset stream, a
//! client that left while held) drops it, and dropping it writes the request's line in the access log.

use std::rc::Rc;
use std::time::{Duration, Instant};

use http::header::{
    ALLOW, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, LOCATION, ORIGIN, TE, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;

use crate::body::{Incoming, Progress, ResponseBody};
use crate::client::Client;
use crate::error::{Failure, Kind};
pub(crate) use crate::interim::Interim;
use crate::middleware::access_log::Record;
use crate::middleware::compress::{self, Coding, Encoder};
use crate::middleware::forwarded::X_FORWARDED_PREFIX;
use crate::middleware::hop_by_hop::{self, Said};
use crate::middleware::{Middleware, allow, max_forwards, redirect, request_id, robots};
use crate::router::Found;
use crate::tunnel::{self, Tunnel};
use crate::upstream::pool::Lease;
use crate::upstream::{self, Destination, Outgoing};
use crate::worker::Current;
use crate::world::Action;

mod name;
mod page;
mod size;

pub(crate) use name::ExtendedConnect;
use name::Name;
use page::{page, prefers_html};

/// What goes back to the client's connection.
#[allow(clippy::large_enum_variant, reason = "nearly every one is the large one")]
pub(crate) enum Reply {
    Response(Response<ResponseBody>),
    /// Once this head has been written, the connection (or the stream) is the near end of the tunnel.
    Tunnel {
        response: Response<()>,
        tunnel: Box<Tunnel>,
    },
}

/// What is passed on, as an `Allow` field says it; others too, but these are known to all.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// What a request is answered with.
enum Answer {
    Redirect {
        status: StatusCode,
        location: HeaderValue,
    },
    /// To an OPTIONS that goes no further.
    Options,
    /// To a browser that asks before its script may.
    Preflight(HeaderMap),
    /// The file that keeps search engines away.
    Robots,
    Upstream {
        response: Response<Incoming>,
        lease: Lease,
    },
    Tunnel {
        response: Response<()>,
        lease: Lease,
    },
}

/// Answers one request of a client. Never fails: a failure is an answer too.
pub(crate) async fn serve(client: &Rc<Client>, mut request: Request<Incoming>, interim: Interim) -> Reply {
    let fits = size::fits(&request, client.worker.world().limits());
    let progress = Rc::new(Progress::default());
    let mut record = Record::begin(client, &request, &progress);
    let id = request_id::assign(request.headers_mut(), || client.worker.random_128());
    record.id(id.clone());
    let (html, version) = (prefers_html(request.headers()), request.version());
    let mut matched = None;
    let answer = match fits {
        Ok(()) => answer(client, request, interim, progress, &mut record, &mut matched).await,
        Err(failure) => Err(failure),
    };
    let pages = matched.as_ref().map(|matched| &matched.middleware().pages);
    let mut response = match answer {
        Ok(Answer::Upstream { response, lease }) => {
            record.status(response.status());
            let (mut head, body) = response.into_parts();
            let encoder = matched
                .as_ref()
                .and_then(|matched| matched.compress(&mut head, &body));
            Response::from_parts(head, ResponseBody::upstream(body, lease, record, encoder))
        }
        Ok(Answer::Tunnel { response, mut lease }) => match lease.take_raw() {
            Some(upstream) => {
                record.status(response.status());
                let tunnel = Box::new(Tunnel::new(upstream, lease, record));
                return Reply::Tunnel { response, tunnel };
            }
            None => page(&protocol(&lease), pages, html, version, &id, record),
        },
        Ok(Answer::Options) => {
            record.status(StatusCode::OK);
            record.reason("max_forwards");
            let mut response = Response::new(ResponseBody::own("", record));
            response
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static(METHODS));
            response
        }
        Ok(Answer::Robots) => {
            record.status(StatusCode::OK);
            record.reason("robots");
            let mut response = Response::new(ResponseBody::own(robots::TEXT, record));
            let kind = HeaderValue::from_static("text/plain; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
        Ok(Answer::Preflight(headers)) => {
            record.status(StatusCode::NO_CONTENT);
            record.reason("preflight");
            let mut response = Response::new(ResponseBody::own("", record));
            *response.status_mut() = StatusCode::NO_CONTENT;
            *response.headers_mut() = headers;
            response
        }
        Ok(Answer::Redirect { status, location }) => {
            record.status(status);
            record.reason("redirect");
            let mut response = Response::new(ResponseBody::own("", record));
            *response.status_mut() = status;
            response.headers_mut().insert(LOCATION, location);
            response
        }
        Err(failure) => page(&failure, pages, html, version, &id, record),
    };
    if let Some(matched) = &matched {
        matched
            .middleware()
            .finish(response.headers_mut(), matched.origin.as_ref(), client.https());
    }
    Reply::Response(response)
}

/// The route that a request was found to mean.
struct Matched {
    world: Current,
    route: usize,
    /// The request wants no body.
    head: bool,
    accepts: Option<Coding>,
    /// Where that matters.
    origin: Option<HeaderValue>,
}

impl Matched {
    /// What the answer's body is compressed with, if it is. Then the head says so.
    fn compress(&self, head: &mut http::response::Parts, body: &Incoming) -> Option<Encoder> {
        if !self.middleware().compress {
            return None;
        }
        let told = || head.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
        let length = if self.head {
            told()
        } else {
            body.size_hint().exact()
        };
        let coding = compress::choose(self.accepts, head.status, &mut head.headers, length)?;
        // Where it can't be had, for want of memory, the body goes as it is.
        let encoder = if self.head {
            None
        } else {
            Some(Encoder::new(coding).ok()?)
        };
        compress::mark(coding, &mut head.headers);
        encoder
    }

    fn middleware(&self) -> &Middleware {
        &self.world.routes[self.route].middleware
    }
}

/// Answers what is not a request, or not one that has one length. `request` is there as far as it could be read.
pub(crate) fn refuse(
    client: &Rc<Client>,
    request: Option<&Request<()>>,
    status: StatusCode,
    why: &dyn std::error::Error,
) -> Response<ResponseBody> {
    let unreadable;
    let request = match request {
        Some(request) => request,
        None => {
            let mut request = Request::new(());
            *request.method_mut() = Method::from_bytes(b"-").unwrap_or_default();
            *request.uri_mut() = Uri::from_static("*");
            unreadable = request;
            &unreadable
        }
    };
    let mut record = Record::begin(client, request, &Rc::default());
    let id = request_id::assign(&mut HeaderMap::new(), || client.worker.random_128());
    record.id(id.clone());
    let why = why.to_string();
    let failure = Failure::from(Kind::Malformed { status, why });
    page(
        &failure,
        None,
        prefers_html(request.headers()),
        request.version(),
        &id,
        record,
    )
}

async fn answer(
    client: &Client,
    mut request: Request<Incoming>,
    interim: Interim,
    progress: Rc<Progress>,
    record: &mut Record,
    matched: &mut Option<Matched>,
) -> Result<Answer, Failure> {
    let name = Name::of(&request)?;
    let worker = &client.worker;
    let world = worker.world();
    if !client.may_ask_for(&name.host) {
        return Err(Kind::Misdirected(name.host.into_owned()).into());
    }
    let uri = request.uri().clone();
    let path = match uri.path() {
        "*" | "" => "/",
        path => path,
    };
    let to_https = !client.https() && world.has_https;
    let found = world.router.find(&name.host, path);
    let route = match found {
        Found::Route(route) => route,
        Found::UnknownHost => return Err(Kind::UnknownHost(name.host.into_owned()).into()),
        Found::Ambiguous => {
            return Err(
                Kind::BadRequest("an encoded or doubled slash would change where this path leads").into(),
            );
        }
        Found::NoPath if to_https => return secure(&name.host, world.https_port(), &uri),
        Found::NoPath => return Err(Kind::NoRoute(name.host.into_owned()).into()),
    };
    *matched = Some(Matched {
        world: world.clone(),
        route,
        head: *request.method() == Method::HEAD,
        accepts: world.routes[route]
            .middleware
            .compress
            .then(|| Coding::accepted(request.headers()))
            .flatten(),
        origin: world.routes[route]
            .middleware
            .cors
            .as_ref()
            .and_then(|_| request.headers().get(ORIGIN).cloned()),
    });
    match &world.routes[route] {
        known if !allow::admits(&known.allow, client.peer.ip()) => return Err(Kind::Forbidden.into()),
        known => match &known.action {
            Action::Redirect { to, append, status } => {
                return Ok(Answer::Redirect {
                    status: *status,
                    location: location(redirect::to_target(to, *append, &uri))?,
                });
            }
            Action::Forward(_) if to_https => return secure(&name.host, world.https_port(), &uri),
            Action::Forward(_) => {}
        },
    }
    let middleware = &world.routes[route].middleware;
    // Before all that asks who it is: a preflight has no credentials, and the file is for everybody.
    if let Some(cors) = &middleware.cors
        && let Some(answer) = cors.preflight(request.method(), request.headers())
    {
        return Ok(Answer::Preflight(answer));
    }
    if middleware.robots_deny && robots::is_asked_for(request.method(), path) {
        return Ok(Answer::Robots);
    }
    if middleware.closed {
        return Err(Kind::Maintenance.into());
    }
    if let Some(limiter) = &middleware.rate_limit {
        let wait = limiter.take(client.peer.ip(), request.headers(), Instant::now());
        wait.map_err(|wait| Kind::RateLimited(seconds(wait)))?;
    }
    if let Some(gate) = &middleware.basic_auth {
        let (verified, verifier) = (&worker.verified, &worker.shared.verifier);
        let entering = gate.enter(client.peer.ip(), request.headers(), verified, verifier);
        record.user(entering.await?);
    }
    if let Some(limit) = &middleware.concurrency {
        record.place(limit.enter().ok_or(Kind::Concurrency)?);
    }
    if let Some(most) = middleware.max_body {
        // The length that is known counts before a byte is taken, the other one while they come.
        if request.body().size_hint().lower() > most {
            return Err(Kind::BodyTooLarge(most).into());
        }
        progress.most.set(most);
    }
    let method = request.method().clone();
    if !max_forwards::may_pass(&method, request.headers_mut()) {
        return Ok(Answer::Options);
    }
    let (mut head, body, wanted) = prepare(client, &name, request);
    change(&mut head, middleware)?;
    let mut outgoing = Outgoing::new(head, body, interim, progress, world.limits());
    let destination = Destination {
        world,
        route,
        host: &name.host,
        path,
    };
    let (response, lease) = upstream::exchange(worker, destination, &mut outgoing, record).await?;
    respond(response, lease, wanted)
}

/// Whole seconds, rounded up.
fn seconds(wait: Duration) -> u32 {
    u32::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u32::MAX)
}

fn secure(host: &str, port: u16, uri: &Uri) -> Result<Answer, Failure> {
    let location = location(redirect::to_https(host, port, uri))?;
    Ok(Answer::Redirect {
        status: StatusCode::PERMANENT_REDIRECT,
        location,
    })
}

fn location(made: Option<HeaderValue>) -> Result<HeaderValue, Failure> {
    made.ok_or_else(|| Kind::BadRequest("the path can't stand in a Location").into())
}

// === Head ===

/// A change of protocol that the client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// By Upgrade, which is granted with 101.
    Upgrade,
    /// By extended CONNECT (RFC 8441), which is granted with 200.
    Extended,
}

/// The head as it goes upstream, and the change of protocol that it asks for.
fn prepare(
    client: &Client,
    name: &Name,
    mut request: Request<Incoming>,
) -> (Parts, Incoming, Option<Wanted>) {
    let said = hop_by_hop::strip(request.headers_mut());
    let wanted = wanted(&mut request, &said, client);
    let version = request.version();
    let (mut head, body) = request.into_parts();
    head.extensions.clear();
    if let Some(path) = head.uri.path_and_query() {
        head.uri = Uri::from(path.clone());
    }
    client.write_origin(&name.field, &mut head.headers, version);
    if version == Version::HTTP_2 {
        join_cookies(&mut head.headers);
    }
    if said.trailers && wanted.is_none() {
        head.headers.insert(TE, HeaderValue::from_static("trailers"));
        head.headers.insert(CONNECTION, HeaderValue::from_static("te"));
    }
    (head, body, wanted)
}

/// What the route changes of it.
fn change(head: &mut Parts, middleware: &Middleware) -> Result<(), Failure> {
    // `*` is no path, and stays what it is.
    let path = head.uri.path_and_query().filter(|path| path.as_str() != "*");
    if let (Some(paths), Some(path)) = (&middleware.paths, path) {
        let changed = paths.apply(path).map_err(Kind::Path)?;
        head.uri = Uri::from(changed.path);
        if let Some(prefix) = changed
            .stripped
            .and_then(|prefix| HeaderValue::try_from(prefix).ok())
        {
            head.headers.insert(X_FORWARDED_PREFIX, prefix);
        }
    }
    if middleware.basic_auth.as_ref().is_some_and(|gate| !gate.forwards) {
        head.headers.remove(AUTHORIZATION);
    }
    if let Some(rules) = &middleware.request_headers {
        rules.apply(&mut head.headers);
    }
    Ok(())
}

fn wanted(request: &mut Request<Incoming>, said: &Said, client: &Client) -> Option<Wanted> {
    let extended = *request.method() == Method::CONNECT;
    let protocol = if extended {
        request.extensions().get::<ExtendedConnect>()?.0.clone()
    } else {
        said.upgrade
            .clone()
            .filter(|_| request.version() == Version::HTTP_11)?
    };
    if extended {
        *request.method_mut() = Method::GET;
        tunnel::write_key(request.headers_mut(), &protocol, client.worker.random_128());
    }
    let headers = request.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol);
    Some(if extended {
        Wanted::Extended
    } else {
        Wanted::Upgrade
    })
}

/// HTTP/2 may send cookies one by one, HTTP/1.1 may not (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(COOKIE).iter();
    if let (Some(first), Some(_)) = (cookies.next(), cookies.next()) {
        let mut joined = first.as_bytes().to_vec();
        for cookie in headers.get_all(COOKIE).iter().skip(1) {
            joined.extend_from_slice(b"; ");
            joined.extend_from_slice(cookie.as_bytes());
        }
        if let Ok(joined) = HeaderValue::from_bytes(&joined) {
            headers.insert(COOKIE, joined);
        }
    }
}

// === Answer ===

fn respond(
    mut response: Response<Incoming>,
    lease: Lease,
    wanted: Option<Wanted>,
) -> Result<Answer, Failure> {
    *response.version_mut() = Version::HTTP_11;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        hop_by_hop::strip(response.headers_mut());
        return Ok(Answer::Upstream { response, lease });
    }
    let Some(wanted) = wanted else {
        return Err(protocol(&lease));
    };
    let chosen = response.headers().get(UPGRADE).cloned();
    hop_by_hop::strip(response.headers_mut());
    let mut response = response.map(|_| ());
    if wanted == Wanted::Extended {
        *response.status_mut() = StatusCode::OK;
        response.headers_mut().remove(http::header::SEC_WEBSOCKET_ACCEPT);
    } else {
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("upgrade"));
        if let Some(chosen) = chosen {
            response.headers_mut().insert(UPGRADE, chosen);
        }
    }
    Ok(Answer::Tunnel { response, lease })
}

/// The endpoint changed the protocol as it may not.
fn protocol(lease: &Lease) -> Failure {
    let endpoint = lease.endpoint().to_owned();
    Kind::Protocol { endpoint }.into()
}
