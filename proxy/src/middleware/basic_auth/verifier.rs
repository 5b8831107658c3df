//! The threads that compute hashes of passwords, and the short queue before them.

use std::io;
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use linkspan_site::PasswordHash;
use tokio::sync::oneshot;

use super::verify;
use crate::listen::Crowd;

/// Passwords verified at once.
const THREADS: usize = 2;
/// Passwords that may wait. With the usual cost of a hash, the last one waits for a few seconds.
const WAITING: usize = 64;
/// Of these from one client network: who guesses passwords must not keep others from saying theirs.
const EACH: u32 = 4;

struct Job {
    hash: PasswordHash,
    password: Vec<u8>,
    answer: oneshot::Sender<bool>,
}

/// Where passwords are handed in. The threads end when the last of these is gone.
#[derive(Debug, Clone)]
pub(crate) struct Verifier {
    jobs: SyncSender<Job>,
    asking: Arc<Crowd>,
}

/// A client's place among those who wait.
struct Place<'a>(&'a Crowd, IpAddr);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.leave(self.1);
    }
}

impl Verifier {
    pub(crate) fn start() -> io::Result<(Self, Vec<JoinHandle<()>>)> {
        let (sender, jobs) = sync_channel(WAITING);
        let jobs = Arc::new(Mutex::new(jobs));
        let thread = |index| {
            let jobs = Arc::clone(&jobs);
            std::thread::Builder::new()
                .name(format!("verifier-{index}"))
                .spawn(move || run(&jobs))
        };
        let threads = (0..THREADS).map(thread).collect::<io::Result<_>>()?;
        Ok((Self::over(sender), threads))
    }

    fn over(jobs: SyncSender<Job>) -> Self {
        Self {
            jobs,
            asking: Arc::default(),
        }
    }

    /// Is it the password? `None`: too many wait for an answer already, in all or from this client's network.
    pub(crate) async fn verify(&self, from: IpAddr, hash: PasswordHash, password: Vec<u8>) -> Option<bool> {
        let _place = self.asking.enter(from, EACH).then(|| Place(&self.asking, from))?;
        let (answer, answered) = oneshot::channel();
        self.jobs
            .try_send(Job {
                hash,
                password,
                answer,
            })
            .ok()?;
        answered.await.ok()
    }
}

fn run(jobs: &Mutex<Receiver<Job>>) {
    loop {
        // Locked only while waiting: whoever got a job lets the next thread wait.
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        // Its client may have left meanwhile.
        if !job.answer.is_closed() {
            let right = verify::is_right(&job.hash, &job.password);
            job.answer.send(right).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Waker};

    use super::*;

    #[tokio::test]
    async fn more_than_may_wait_are_turned_away_and_the_threads_end_with_the_last_sender() {
        let (verifier, threads) = Verifier::start().unwrap();
        let client = IpAddr::from([192, 0, 2, 1]);
        let sha = PasswordHash::Sha1("W6ph5Mm5Pz8GgiULbPgzG37mj9g=".to_owned());
        assert_eq!(
            verifier.verify(client, sha.clone(), b"password".to_vec()).await,
            Some(true)
        );
        assert_eq!(
            verifier.verify(client, sha, b"passwort".to_vec()).await,
            Some(false)
        );
        drop(verifier);
        for thread in threads {
            thread.join().unwrap();
        }
        let (sender, _jobs) = sync_channel(1);
        let full = Verifier::over(sender);
        let sha = PasswordHash::Sha1(String::new());
        let (first, second) = tokio::join!(
            biased_once(full.verify(client, sha.clone(), vec![])),
            full.verify(client, sha, vec![])
        );
        assert_eq!((first, second), (None, None));
    }

    #[tokio::test]
    async fn one_network_has_so_many_and_leaves_room_for_others() {
        let (sender, _jobs) = sync_channel(WAITING);
        let verifier = Verifier::over(sender);
        let sha = || PasswordHash::Sha1(String::new());
        let ask = |last: u8| verifier.verify(IpAddr::from([192, 0, 2, last]), sha(), vec![]);
        let mut waiting: Vec<_> = (0..EACH).map(|_| Box::pin(ask(1))).collect();
        for one in &mut waiting {
            assert!(is_pending(one));
        }
        assert_eq!(ask(1).await, None, "no more from there");
        let mut other = Box::pin(ask(2));
        assert!(is_pending(&mut other), "others may");
        waiting.pop();
        let mut again = Box::pin(ask(1));
        assert!(is_pending(&mut again), "who has left makes room");
    }

    fn is_pending<T>(future: &mut Pin<Box<impl Future<Output = T>>>) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        future.as_mut().poll(&mut context).is_pending()
    }

    /// Polls once: the job is handed in, and nobody answers.
    async fn biased_once(verify: impl Future<Output = Option<bool>>) -> Option<bool> {
        tokio::select! {
            biased;
            answer = verify => answer,
            () = tokio::task::yield_now() => None,
        }
    }
}
