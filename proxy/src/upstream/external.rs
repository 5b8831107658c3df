//! Addresses of servers elsewhere, asked for again when their time to live is over.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::error::{Failure, Kind};
use crate::worker::Worker;
use crate::world::External;

/// Asked again no sooner than this, whatever the records say.
const TTL_MIN: Duration = Duration::from_secs(1);
/// Addresses that can't be asked for again stay in use for so long.
const STALE: Duration = Duration::from_secs(60);

/// This worker's answers, by name.
#[derive(Default)]
pub(crate) struct Answers(RefCell<HashMap<String, Answer>>);

#[derive(Clone)]
struct Answer {
    addresses: Rc<[IpAddr]>,
    valid_until: Instant,
}

/// The addresses of the host; never empty.
pub(crate) async fn addresses(worker: &Worker, external: &External) -> Result<Rc<[IpAddr]>, Failure> {
    if let Ok(address) = external.host.parse::<IpAddr>() {
        return Ok(Rc::new([address]));
    }
    let now = Instant::now();
    let known = worker.answers.0.borrow().get(&external.host).cloned();
    if let Some(known) = known.as_ref().filter(|known| now < known.valid_until) {
        return Ok(Rc::clone(&known.addresses));
    }
    let failed = match worker.shared.egress.resolve(&external.host).await {
        Ok(found) if !found.addresses.is_empty() => {
            let addresses: Rc<[IpAddr]> = found.addresses.into();
            let valid_until = found.valid_until.max(now + TTL_MIN);
            let answer = Answer {
                addresses: Rc::clone(&addresses),
                valid_until,
            };
            worker
                .answers
                .0
                .borrow_mut()
                .insert(external.host.clone(), answer);
            return Ok(addresses);
        }
        Ok(_) => "the name has no address".into(),
        Err(error) => error,
    };
    match known.filter(|known| now < known.valid_until + STALE) {
        Some(known) => Ok(known.addresses),
        None => Err(Failure::because(
            Kind::Resolve {
                host: external.host.clone(),
            },
            failed,
        )),
    }
}
