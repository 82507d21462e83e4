//! What is found between a route and its plugin.

use serde_json::{Value, json};

use super::*;

fn check(settings: &Value, change: impl Fn(&mut RouteAsk<'_>)) -> Result<Checked, Vec<RouteFinding>> {
    let dir = tempfile::tempdir().unwrap();
    plugin(dir.path());
    let mut ask = RouteAsk {
        path: "libhostile.so",
        symbol: "Good",
        sha256: None,
        settings,
        digest_name: None,
        dump: None,
    };
    change(&mut ask);
    let store = Store::at(&dir.path().join("state"));
    check_route(
        ask,
        &[dir.path().to_owned()],
        &store,
        FileChecks::Enforce,
        &prober(),
        PATIENCE,
    )
}

fn texts(settings: &Value, change: impl Fn(&mut RouteAsk<'_>)) -> Vec<(String, String)> {
    let findings = check(settings, change).unwrap_err();
    findings
        .into_iter()
        .map(|finding| (finding.key.join("."), finding.text))
        .collect()
}

#[test]
fn a_route_that_fits_its_plugin_is_checked() {
    let checked = check(&json!({ "topic": "orders" }), |_| {}).unwrap();
    assert_eq!(checked.probe.descriptor.symbol, "Good");
    check(&json!({}), |ask| ask.digest_name = Some("digest_other")).unwrap();
    check(&json!({}), |ask| ask.dump = Some(devour_abi::DumpMode::Raw)).unwrap();
}

#[test]
fn a_pinned_library_is_that_content_or_none() {
    let found = texts(&json!({}), |ask| ask.sha256 = Some("0000"));
    let [(key, text)] = found.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!(key, "sha256");
    let (_, hash) = text.split_once("the file's is         ").unwrap();
    assert!(text.contains("the route's sha256 is 0000"), "{text}");
    check(&json!({}), |ask| ask.sha256 = Some(hash.to_owned().leak())).unwrap();
}

#[test]
fn settings_are_checked_against_the_schema_and_no_value_is_shown() {
    let found = texts(
        &json!({ "topic": 1234, "limits": { "day": "hunter2" }, "colour": "red" }),
        |_| {},
    );
    let of = |key: &str| {
        found
            .iter()
            .find(|(at, _)| at == key)
            .map(|(_, text)| text.as_str())
    };
    assert!(of("settings.topic").unwrap().contains("/topic: "), "{found:?}");
    assert!(
        of("settings.limits.day").unwrap().contains("/limits/day: "),
        "{found:?}"
    );
    assert!(of("settings").unwrap().contains("colour"), "{found:?}");
    assert!(
        !format!("{found:?}").contains("hunter2") && !format!("{found:?}").contains("1234"),
        "{found:?}"
    );
    // The plugin's own check is heard beside it.
    let found = texts(&json!({ "currency": "DM" }), |_| {});
    assert_eq!(
        found,
        [(
            "settings".into(),
            "currency: there is no such currency any more".into()
        )]
    );
}

#[test]
fn the_digest_and_its_dump_mode_must_be_the_plugins() {
    let found = texts(&json!({}), |ask| ask.digest_name = Some("digest_othr"));
    let text =
        "`Good` has no digest `digest_othr`, it has digest, digest_other; did you mean `digest_other`?";
    assert_eq!(found, [("digest_name".into(), text.into())]);
    let found = texts(&json!({}), |ask| ask.dump = Some(devour_abi::DumpMode::Object));
    assert_eq!(
        found,
        [(
            "dump".into(),
            "digest `digest` cannot take dump_obj, only dump_json, dump_raw".into()
        )]
    );
    let found = texts(&json!({}), |ask| ask.symbol = "NoDigest");
    assert_eq!(found[0].0, "symbol");
}

#[test]
fn a_finding_names_the_key_that_is_wrong() {
    assert_eq!(texts(&json!({}), |ask| ask.path = "libhostel.so")[0].0, "path");
    assert_eq!(texts(&json!({}), |ask| ask.symbol = "Goood")[0].0, "symbol");
    assert_eq!(
        texts(&json!({}), |ask| ask.symbol = "SettingsRefused")[0].0,
        "settings"
    );
}
