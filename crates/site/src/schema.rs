//! The JSON Schema of the file as typed, for editors and `linkspan schema`.
//!
//! It knows shapes and names; what crosses from one part of the file to another, only the parser checks.

pub(crate) mod form;

use serde_json::{Map, Value as Json, json};

use crate::keys::{SITE, Table};

/// The schema (draft 2020-12) of `linkspan.yaml` as people write it, short and long forms.
pub fn schema() -> Json {
    let mut root = object(&SITE);
    root["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    root["title"] = json!("linkspan.yaml");
    root["description"] = json!("A site: its routes, containers, networks and volumes.");
    root
}

/// The schema of a mapping with the keys of a table.
pub(crate) fn object(table: &Table) -> Json {
    let mut properties = Map::new();
    for key in table.keys {
        let mut form = (key.form)();
        form["description"] = json!(key.about);
        properties.insert(key.name.to_owned(), form);
    }
    let mut object = json!({ "type": "object", "properties": properties, "additionalProperties": false });
    if table.extensions {
        object["patternProperties"] = json!({ "^x-": true });
    }
    object
}
