//! Asking a container how it is.

use std::sync::Arc;
use std::time::Duration;

use linkspan_site::Healthcheck;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::Health;
use crate::exec::{ExecSpec, exec};
use crate::link::Link;

/// Of a check's output, the end that is kept.
const OUTPUT_MAX: usize = 4 << 10;
/// The first question after a start; then twice as long each time until an answer or the interval. A program that is up
/// at once should not wait an interval, which is 30 seconds as a rule, to be told so.
const FIRST: Duration = Duration::from_millis(100);
/// How long a check's last words may take.
const LAST_OUTPUT: Duration = Duration::from_millis(50);

/// Asks until the container is gone; `told` gets every change.
pub(crate) async fn ask_on(
    link: Arc<Link>,
    name: String,
    check: Healthcheck,
    mut health: Health,
    told: impl Fn(Health),
) {
    let begin = Instant::now();
    let mut failures = 0;
    let mut pause = FIRST;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = link.closed() => return,
        }
        let result = probe(&link, &name, &check).await;
        // Failures before a check would have been due at all don't count.
        let patient = begin.elapsed() < check.start_period.max(check.interval) && health == Health::Starting;
        let now = match result {
            Probe::Gone => return,
            Probe::Passed => {
                failures = 0;
                Health::Healthy
            }
            Probe::Failed(_) if patient => health.clone(),
            Probe::Failed(output) => {
                failures += 1;
                if failures >= check.retries.max(1) {
                    Health::Unhealthy { output }
                } else {
                    health.clone()
                }
            }
        };
        if std::mem::discriminant(&now) != std::mem::discriminant(&health) {
            told(now.clone());
        }
        health = now;
        pause = if health == Health::Starting && patient {
            let most = if begin.elapsed() < check.start_period {
                check.start_interval
            } else {
                check.interval
            };
            (pause * 2).min(most.max(FIRST))
        } else {
            check.interval
        };
    }
}

enum Probe {
    Passed,
    Failed(String),
    /// There is nobody to ask.
    Gone,
}

async fn probe(link: &Arc<Link>, name: &str, check: &Healthcheck) -> Probe {
    let spec = ExecSpec {
        args: check.test.clone(),
        ..ExecSpec::default()
    };
    let mut session = match exec(Arc::clone(link), name, &spec).await {
        Ok(session) => session,
        Err(crate::ExecError::Failed {
            source: crate::AskError::Gone | crate::AskError::Hung(_),
            ..
        }) => return Probe::Gone,
        Err(error) => return Probe::Failed(error.to_string()),
    };
    let mut output = Vec::new();
    let mut take = |bytes: Vec<u8>| {
        output.extend_from_slice(&bytes);
        let extra = output.len().saturating_sub(OUTPUT_MAX);
        output.drain(..extra);
    };
    let deadline = tokio::time::sleep(check.timeout);
    tokio::pin!(deadline);
    let mut exit = session.exit();
    let mut open = true;
    let code = loop {
        tokio::select! {
            piece = session.output.recv(), if open => match piece {
                Some((_, bytes)) => take(bytes),
                None => open = false,
            },
            code = code_of(&mut exit) => break code,
            () = &mut deadline => {
                let _ = session.signal(libc::SIGKILL).await;
                return Probe::Failed(format!("no answer within {} s", check.timeout.as_secs_f32()));
            }
        }
    };
    // What it wrote is on its way; what it left running may hold the streams for ever.
    while let Ok(Some((_, bytes))) = tokio::time::timeout(LAST_OUTPUT, session.output.recv()).await {
        take(bytes);
    }
    match code {
        Some(0) => Probe::Passed,
        Some(_) => Probe::Failed(String::from_utf8_lossy(&output).trim_end().to_owned()),
        None => Probe::Gone,
    }
}

/// The exit status without the lock that the channel lends it under.
async fn code_of(exit: &mut watch::Receiver<Option<i32>>) -> Option<i32> {
    exit.wait_for(Option::is_some).await.ok().and_then(|code| *code)
}
