//! Checkpoints as resources: `llfs://checkpoints` is the list of all, `llfs://checkpoint/NAME` one of them.

use std::fmt::Write as _;

use llctl::SnapName;
use rmcp::model::{ReadResourceResult, Resource, ResourceContents, ResourceTemplate};

use super::{Place, Why};
use crate::cli::units;

const ALL: &str = "llfs://checkpoints";
const ONE: &str = "llfs://checkpoint/";
const JSON: &str = "application/json";
/// Checkpoints that a client is offered, the newest so many. All are in the list.
const OFFERED: usize = 100;

/// What there is to read.
pub fn list(place: &Place) -> Result<Vec<Resource>, Why> {
    let listing = place.connect()?.list()?;
    let mut found = vec![
        Resource::new(ALL, "checkpoints")
            .with_description("All checkpoints, oldest first, and what reverts discarded")
            .with_mime_type(JSON),
    ];
    found.extend(listing.snapshots.iter().rev().take(OFFERED).map(|snap| {
        let message = snap.message.as_deref().unwrap_or_default();
        let message = message.lines().next().unwrap_or_default();
        let description = format!("taken {} {message}", units::local(snap.created));
        Resource::new(uri(&snap.name), snap.name.clone())
            .with_description(description.trim_end())
            .with_mime_type(JSON)
    }));
    Ok(found)
}

/// How any checkpoint is named.
pub fn templates() -> Vec<ResourceTemplate> {
    vec![
        ResourceTemplate::new(format!("{ONE}{{name}}"), "checkpoint")
            .with_description("One checkpoint: when, why, and how much changed before and after it")
            .with_mime_type(JSON),
    ]
}

/// Reads one of them.
pub fn read(place: &Place, wanted: &str) -> Result<ReadResourceResult, Why> {
    let json = if wanted == ALL {
        serde_json::to_string_pretty(&place.connect()?.list()?)?
    } else {
        let name = wanted.strip_prefix(ONE).and_then(decoded);
        let name = name.ok_or_else(|| Why::Other(format!("there is no resource {wanted}")))?;
        serde_json::to_string_pretty(&place.connect()?.show(SnapName::new(name)?)?)?
    };
    let contents = ResourceContents::text(json, wanted).with_mime_type(JSON);
    Ok(ReadResourceResult::new(vec![contents]))
}

/// The URI of a checkpoint: what is not plain is percent-encoded (RFC 3986).
fn uri(name: &str) -> String {
    let mut uri = ONE.to_owned();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            write!(uri, "%{byte:02X}").expect("writing to memory cannot fail");
        }
    }
    uri
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_has_a_uri() {
        for name in ["a-b.c", "vor dem Umbau", "日本", "50%", "x?y#z"] {
            let uri = uri(name);
            assert!(uri.is_ascii() && !uri.contains(' '), "{uri}");
            assert_eq!(
                decoded(uri.strip_prefix(ONE).unwrap()).as_deref(),
                Some(name)
            );
        }
        for bad in ["%", "%4", "%zz", "%ff"] {
            assert_eq!(decoded(bad), None);
        }
    }
}
