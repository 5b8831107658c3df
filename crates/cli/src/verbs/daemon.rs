//! `linkspan daemon`: only read here; the binary becomes the daemon.

use std::net::SocketAddr;
use std::path::{Path, PathBuf, absolute};

use anyhow::Context;

use crate::DaemonArgs;

/// Run the daemon, in the foreground
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  linkspan daemon
  linkspan daemon --http 127.0.0.1:8080 --https 127.0.0.1:8443 --state-dir /tmp/state --run-dir /tmp/run")]
pub(crate) struct Daemon {
    /// Where everything lies that outlives a reboot
    #[arg(long, value_name = "DIR", default_value = "/var/lib/linkspan")]
    state_dir: PathBuf,
    /// The daemon's settings
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Listen for HTTP here instead of where the settings say; may be repeated
    #[arg(long, value_name = "ADDR:PORT", value_parser = address)]
    http: Vec<SocketAddr>,
    /// Listen for HTTPS here instead of where the settings say; may be repeated
    #[arg(long, value_name = "ADDR:PORT", value_parser = address)]
    https: Vec<SocketAddr>,
}

impl Daemon {
    /// The paths made absolute: the daemon hands them on to processes with other working directories.
    pub(crate) fn resolve(self, run_dir: &Path) -> anyhow::Result<DaemonArgs> {
        let full =
            |path: &Path| absolute(path).with_context(|| format!("cannot resolve `{}`", path.display()));
        Ok(DaemonArgs {
            run_dir: full(run_dir)?,
            state_dir: full(&self.state_dir)?,
            config: self.config.as_deref().map(full).transpose()?,
            http: self.http,
            https: self.https,
        })
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "write an address and a port: `0.0.0.0:80`, `[::]:80`, `127.0.0.1:8080`".to_owned())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use crate::{Role, run};

    #[test]
    fn the_daemon_is_only_read_and_gets_absolute_paths() {
        let line = "linkspan --run-dir r daemon --state-dir /s --http 127.0.0.1:8080 --http [::1]:8080";
        let Role::Daemon(args) = run(line.split(' ').map(OsString::from)) else {
            panic!("it ran")
        };
        assert_eq!(args.run_dir, std::env::current_dir().unwrap().join("r"));
        assert_eq!(args.state_dir.to_str(), Some("/s"));
        assert_eq!(args.http.len(), 2);
        assert!(args.https.is_empty());
    }
}
