//! Wrong usage ends with status 2 and says what is right; `schema` prints the JSON Schema that lies in `config/`; what
//! devourd starts of itself says so when a person starts it; an unknown route is answered with the nearest name.

use std::{fs, time::Duration};

use devour_tests::{
    command,
    daemon::{Home, Settings},
    scenario::{Outcome, Run},
    workspace,
};

pub const RUNS: &[Run] = &[
    Run::Alone("wrong", wrong_usage_ends_with_2),
    Run::Alone("schema", the_schema_is_the_one_in_config),
    Run::Alone("consume", an_unknown_route_is_answered_with_the_nearest),
];

const LIMIT: Duration = Duration::from_secs(20);

/// Words of the command line, and of the answer.
const WRONG: &[(&[&str], &str)] = &[
    (&["chek"], "unrecognized subcommand 'chek'"),
    (&["--setings", "x"], "unexpected argument '--setings'"),
    (&["--settings"], "a value is required for '--settings <FILE>'"),
    (&["check", "x"], "unexpected argument 'x'"),
    (&["consume"], "<NAME>"),
    (
        &["demo", "--messages", "many"],
        "invalid value 'many' for '--messages <N>'",
    ),
    (&["dead-letter"], "replay  Sends a route's dead letters back"),
    (&["dead-letter", "list"], "<ROUTE>"),
    (&["stop"], "<ROUTE|--all>"),
    (&["stop", "orders", "--all"], "cannot be used with"),
    (&["status", "orders", "bills"], "unexpected argument 'bills'"),
    (&["skip", "orders"], "<TOPIC/PARTITION@OFFSET>"),
    (&["skip", "orders", "orders/3"], "expected TOPIC/PARTITION@OFFSET"),
    (&["produce"], "<ROUTE-OR-TOPIC>"),
    (&["produce", "orders", "--rate", "fast"], "as in `200/s`"),
    (&["produce", "orders", "--header", "x"], "expected NAME=VALUE"),
    (&["plugins"], "inspect  What a library says of itself"),
    (&["plugins", "inspect"], "<FILE>"),
    (&["plugins", "inspect", "x", "--with", "{"], "this is not JSON"),
    (
        &["plugins", "inspect", "x", "--with", "5"],
        "expected a JSON object",
    ),
    (
        &["host"],
        "devourd host runs one plugin for the daemon that started it",
    ),
    (&["probe"], "devourd probe opens a plugin for"),
];

fn wrong_usage_ends_with_2() -> Outcome {
    let home = Home::new("usage")?;
    for (words, answer) in WRONG {
        let done = command::run(home.command()?.args(*words), LIMIT)?;
        let what = words.join(" ");
        done.expect(&what, 2).says(&what, [*answer]);
        assert_eq!(done.stdout, "", "{what}");
    }
    for words in [["--help"], ["--version"]] {
        let done = command::run(home.command()?.args(words), LIMIT)?;
        done.expect(words[0], 0).says(words[0], ["devourd"]);
    }
    Ok(())
}

fn the_schema_is_the_one_in_config() -> Outcome {
    let home = Home::new("schema")?;
    let done = command::run(home.command()?.arg("schema"), LIMIT)?;
    done.expect("schema", 0);
    let schema: serde_json::Value = serde_json::from_str(&done.stdout)?;
    assert!(schema["properties"]["consumer_routes"].is_object(), "{schema}");
    let file = workspace::target_dir()
        .with_file_name("config")
        .join("devour.schema.json");
    assert!(
        done.stdout == fs::read_to_string(&file)?,
        "{} is not what `devourd schema` prints",
        file.display()
    );
    Ok(())
}

fn an_unknown_route_is_answered_with_the_nearest() -> Outcome {
    let home = Home::new("consume")?;
    let route = serde_json::json!("libnone.so::None");
    let routes = serde_json::json!({"orders": route, "payments": route});
    let text = serde_json::json!({"hosts": "127.0.0.1:1", "consumer_routes": routes});
    fs::write(home.settings_file(), text.to_string())?;
    let done = command::run(home.command()?.args(["consume", "oders"]), LIMIT)?;
    done.expect("consume", 78).says(
        "consume",
        [
            "settings.yaml has no route `oders`",
            "orders, payments",
            "Did you mean `orders`?",
        ],
    );

    home.write(&Settings::of("127.0.0.1:1"))?;
    let done = command::run(home.command()?.args(["consume", "oders"]), LIMIT)?;
    done.expect("without routes", 78)
        .says("without routes", ["its routes: none"]);

    fs::remove_file(home.settings_file())?;
    let done = command::run(home.command()?.args(["consume", "oders"]), LIMIT)?;
    done.expect("without settings", 78).says(
        "without settings",
        ["there is no such file", "settings.yaml (named by the default)"],
    );
    Ok(())
}
