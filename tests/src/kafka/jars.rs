//! The published jars of Apache Kafka, fetched once by Maven into `target/kafka/<version>/libs`.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use rustix::fs::{FlockOperation, flock};

use super::KafkaError;
use crate::workspace;

/// The Kafka that we prove ourselves on.
pub const VERSION: &str = "4.3.1";

/// `kafka-tools` is here for `cargo xtask kafka tool`; the last binds Kafka's logging to log4j (the version that Kafka
/// itself brings), without which a broker says nothing at all.
const ARTIFACTS: [(&str, &str, &str); 3] = [
    ("org.apache.kafka", "kafka_2.13", VERSION),
    ("org.apache.kafka", "kafka-tools", VERSION),
    ("org.apache.logging.log4j", "log4j-slf4j-impl", "2.25.4"),
];

/// The class path of a Kafka that is there from now on.
pub fn ensure() -> Result<String, KafkaError> {
    find_program("java").ok_or_else(|| {
        KafkaError::Unavailable("`java` is not in PATH (install a Java 17 or newer runtime)".to_owned())
    })?;
    let home = home();
    let libs = home.join("libs");
    if !libs.is_dir() {
        fs::create_dir_all(&home)?;
        // Two test processes may come here at once: the second waits, and then finds the jars.
        let lock = File::create(home.join("lock"))?;
        flock(&lock, FlockOperation::LockExclusive).map_err(std::io::Error::from)?;
        if !libs.is_dir() {
            fetch(&home, &libs)?;
        }
    }
    Ok(format!("{}/*", libs.display()))
}

/// `java` with Kafka's class path, small, and quiet unless something is wrong; what it logs goes to stderr.
pub fn java(classpath: &str, log_config: &Path) -> Command {
    let mut java = Command::new("java");
    java.args(["-Xms256m", "-Xmx256m", "-XX:+UseSerialGC"])
        .arg(format!("-Dlog4j2.configurationFile={}", log_config.display()))
        .args(["-cp", classpath]);
    java
}

/// One of Kafka's command-line classes, such as `org.apache.kafka.tools.TopicCommand`, ready to be given arguments.
pub fn tool(class: &str) -> Result<Command, KafkaError> {
    let classpath = ensure()?;
    let log_config = home().join("tool.log4j2.yaml");
    fs::write(&log_config, log_settings(None))?;
    let mut java = java(&classpath, &log_config);
    java.arg(class);
    Ok(java)
}

/// Where this version lives.
pub fn home() -> PathBuf {
    workspace::target_dir().join("kafka").join(VERSION)
}

/// log4j2's settings: warnings to stderr, and every request to `request_log` if one is wanted.
pub fn log_settings(request_log: Option<&Path>) -> String {
    let (appender, logger) = match request_log {
        None => (String::new(), String::new()),
        Some(file) => (
            format!(
                "    File: {{name: requests, fileName: \"{}\", append: true, PatternLayout: {{pattern: \"%m%n\"}}}}\n",
                file.display()
            ),
            "    Logger: [{name: kafka.request.logger, level: debug, additivity: false, AppenderRef: {ref: requests}}]\n"
                .to_owned(),
        ),
    };
    format!(
        "Configuration:\n  Appenders:\n    Console: {{name: out, target: SYSTEM_ERR, PatternLayout: {{pattern: \"%d %p %c{{1}} %m%n\"}}}}\n{appender}  Loggers:\n    Root: {{level: warn, AppenderRef: {{ref: out}}}}\n{logger}"
    )
}

fn fetch(home: &Path, libs: &Path) -> Result<(), KafkaError> {
    find_program("mvn").ok_or_else(|| {
        KafkaError::Unavailable(format!(
            "`mvn` is not in PATH and Kafka {VERSION} was never fetched (install Maven)"
        ))
    })?;
    let pom = home.join("pom.xml");
    fs::write(&pom, pom_text())?;
    let half = home.join("libs.half");
    let _ = fs::remove_dir_all(&half);
    eprintln!("fetching Apache Kafka {VERSION} into {}", libs.display());
    let maven = Command::new("mvn")
        .args(["-q", "-B", "-f"])
        .arg(&pom)
        .args(["dependency:copy-dependencies", "-DincludeScope=runtime"])
        .arg(format!("-DoutputDirectory={}", half.display()))
        .output()?;
    if !maven.status.success() {
        let said = String::from_utf8_lossy(&maven.stdout);
        let first = said
            .lines()
            .find(|line| line.contains("ERROR"))
            .unwrap_or("no reason given");
        return Err(KafkaError::Unavailable(format!(
            "Maven cannot fetch Kafka {VERSION}: {first}"
        )));
    }
    // Whole or not at all.
    fs::rename(&half, libs)?;
    Ok(())
}

fn pom_text() -> String {
    let dependency = |(group, artifact, version)| {
        format!(
            "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version></dependency>"
        )
    };
    let dependencies: String = ARTIFACTS.into_iter().map(dependency).collect();
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\
         <groupId>devour</groupId><artifactId>kafka</artifactId><version>1</version>\
         <dependencies>{dependencies}</dependencies></project>\n"
    )
}

fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}
