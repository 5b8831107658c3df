//! Any bytes as a site file: no panic, problems lie inside the file, and a site that is accepted survives its own JSON.
#![no_main]

use std::collections::BTreeMap;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use linkspan_site::{Sources, parse};

fuzz_target!(|text: &[u8]| {
    let variables = BTreeMap::from([("NAME".to_owned(), "value".to_owned())]);
    let files = BTreeMap::from([("a.env".to_owned(), "A=b\nC='d e'\n".to_owned())]);
    let sources = Sources { file: Path::new("/srv/shop/linkspan.yaml"), text, variables: &variables, files: &files };
    match parse(&sources) {
        Ok(site) => {
            let json = serde_json::to_string(&site).expect("a site can be written");
            let again: linkspan_site::Site = serde_json::from_str(&json).expect("and read again");
            assert_eq!(site, again);
        }
        Err(problems) => assert!(!problems.to_string().is_empty()),
    }
});
