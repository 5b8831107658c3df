//! `curl` against a rig: a client of other people's, with Linkspan's CA as its only trust.

use std::fs;

use crate::{Ran, Rig};

/// What `curl` was answered.
#[derive(Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// `1.1` or `2`.
    pub version: String,
    /// As received, one a line, in lower case up to the colon.
    pub headers: Vec<String>,
    /// Body.
    pub body: String,
}

impl Answer {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find_map(|line| line.split_once(':').filter(|(key, _)| *key == name))
            .map(|(_, v)| v.trim())
    }
}

impl Rig {
    /// Asks for a URL on this host. The error is what `curl` said.
    pub fn curl(&self, url: &str, args: &[&str]) -> Result<Answer, String> {
        let port = self.port_of(url);
        let host = host_of(url);
        let resolve = format!("{host}:{port}:127.0.0.1");
        self.curl_raw(&[&["--resolve", &resolve], args, &[url]].concat())
    }

    /// `curl` with the CA, time limits and nothing else.
    pub fn curl_raw(&self, args: &[&str]) -> Result<Answer, String> {
        let headers = tempfile::NamedTempFile::new().unwrap();
        let headers_path = headers.path().to_str().unwrap().to_owned();
        let ca = self.ca();
        let fixed = [
            "curl",
            "-sS",
            "--max-time",
            "45",
            "--cacert",
            ca.to_str().unwrap(),
            "-D",
            &headers_path,
        ];
        let fixed = [&fixed[..], &["-w", "%{stderr}%{http_code} %{http_version}"]].concat();
        let Ran { code, out, err, .. } = self.host().run(&[&fixed[..], args].concat());
        if code != 0 {
            return Err(format!("curl: exit status {code}: {err}"));
        }
        let (status, version) = err
            .trim()
            .rsplit('\n')
            .next()
            .unwrap_or_default()
            .split_once(' ')
            .unwrap_or_default();
        let headers = fs::read_to_string(headers.path()).unwrap_or_default();
        let headers = headers.lines().filter_map(|line| line.split_once(':'));
        let headers = headers
            .map(|(name, value)| format!("{}:{value}", name.to_ascii_lowercase()))
            .collect();
        Ok(Answer {
            status: status.parse().unwrap_or(0),
            version: version.to_owned(),
            headers,
            body: out,
        })
    }

    fn port_of(&self, url: &str) -> u16 {
        let authority = url
            .split("://")
            .nth(1)
            .unwrap_or(url)
            .split('/')
            .next()
            .unwrap_or_default();
        let written = authority.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        written.unwrap_or(if url.starts_with("https:") { 443 } else { 80 })
    }
}

fn host_of(url: &str) -> &str {
    let authority = url
        .split("://")
        .nth(1)
        .unwrap_or(url)
        .split('/')
        .next()
        .unwrap_or_default();
    authority.rsplit_once(':').map_or(authority, |(host, _)| host)
}
