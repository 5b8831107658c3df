//! The loop's programs beside the first: begun by one request, answered when they are set up, told when they end.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::unistd::Pid;

use super::Loop;
use crate::Phase;
use crate::protocol::{Answer, ExecOrder, Told};
use crate::shim::exec::{self, SetUp};

/// A program that is being set up, and who wants to know.
pub(super) struct Asked {
    pub(super) set_up: SetUp,
    client: Option<i32>,
    number: u64,
}

impl Loop {
    /// Forgets a client, whose number may soon be another's.
    pub(super) fn lose(&mut self, client: i32) {
        self.clients.remove(&client);
        let asked = self.set_ups.iter_mut().map(|asked| &mut asked.client);
        for one in asked.chain(self.execs.values_mut()) {
            if *one == Some(client) {
                *one = None;
            }
        }
    }

    pub(super) fn begin_exec(
        &mut self,
        client: i32,
        number: u64,
        order: &ExecOrder,
        fds: &[OwnedFd],
    ) -> Result<(), String> {
        if !matches!(self.shim.phase, Phase::Running { .. }) {
            return Err("the container is not running".to_owned());
        }
        if self.set_ups.len() >= exec::MOST {
            return Err(format!("{} other programs are just being set up", exec::MOST));
        }
        let set_up = self.shim.begin_exec(self.init, order, fds)?;
        self.set_ups.push(Asked {
            set_up,
            client: Some(client),
            number,
        });
        Ok(())
    }

    pub(super) fn set_up_at(&self, fd: i32) -> Option<usize> {
        self.set_ups
            .iter()
            .position(|asked| asked.set_up.told().as_raw_fd() == fd)
    }

    pub(super) fn hear_set_up(&mut self, at: usize) {
        let Some(report) = self.set_ups[at].set_up.report() else {
            return;
        };
        let Asked {
            set_up,
            client,
            number,
        } = self.set_ups.swap_remove(at);
        self.strays.remove(&set_up.child());
        let (result, terminal) = match set_up.finish(report) {
            Ok((pid, terminal)) => (Ok(pid), terminal),
            Err(error) => (Err(error), None),
        };
        if let Some(client) = client {
            let rights: Vec<i32> = terminal.iter().map(AsRawFd::as_raw_fd).collect();
            let result = result.clone().map(|pid| Answer::Exec { exec: pid.as_raw() });
            self.tell(client, &Told::Answer { number, result }, &rights);
        }
        if let Ok(pid) = result {
            self.execs.insert(pid, client);
            if let Some(code) = self.strays.remove(&pid) {
                self.exec_ended(pid, code);
            }
        }
        self.settle_strays();
    }

    pub(super) fn give_up_late_ones(&mut self) {
        while let Some(at) = self.set_ups.iter().position(|asked| asked.set_up.is_late()) {
            let Asked {
                set_up,
                client,
                number,
            } = self.set_ups.swap_remove(at);
            let result = Err(set_up.give_up());
            if let Some(client) = client {
                self.tell(client, &Told::Answer { number, result }, &[]);
            }
        }
        self.settle_strays();
    }

    /// The container has ended, so they come to nothing.
    pub(super) fn give_up_set_ups(&mut self) {
        for asked in self.set_ups.drain(..) {
            asked.set_up.give_up();
        }
    }

    /// Without a program on its way, none of those that ended can be one.
    fn settle_strays(&mut self) {
        if self.set_ups.is_empty() {
            self.strays.clear();
        }
    }

    pub(super) fn exec_ended(&mut self, pid: Pid, code: i32) {
        if let Some(Some(client)) = self.execs.remove(&pid) {
            let exec = pid.as_raw();
            self.tell(client, &Told::ExecExited { exec, code }, &[]);
        }
    }
}
