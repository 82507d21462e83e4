//! `devourd reload`: tells a running daemon to read its settings and plugins again. With `--wait` it prints the receipt,
//! and its exit status is the reload's.

use std::path::Path;

use super::{
    DONE, FAILED,
    control::{Socket, exchange},
};
use crate::{
    admin::{Answer, Request},
    supervisor::receipt::{Outcome, Receipt},
};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Wait until it is done, print what it did to each route, and end with 0 only if all is as the settings say.
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    socket: Socket,
}

pub(super) fn run(settings: Option<&Path>, args: &Args) -> u8 {
    let request = Request::Reload { wait: args.wait };
    let done = match exchange(settings, &args.socket, &request) {
        Answer::Done(done) => done,
        Answer::Failed { error } => return say_failed(args, &error),
    };
    if !args.wait {
        if args.socket.json {
            println!("{}", serde_json::json!(Answer::Done(done)));
        } else {
            println!("the reload has begun: `devourd status` and the log tell what it did");
        }
        return DONE;
    }
    let receipt: Receipt = match serde_json::from_value(done["receipt"].clone()) {
        Ok(receipt) => receipt,
        Err(error) => return say_failed(args, &format!("the receipt cannot be read: {error}")),
    };
    if args.socket.json {
        println!("{}", serde_json::json!(receipt));
    } else {
        println!("{}", receipt.describe());
    }
    if receipt.outcome == Outcome::Done {
        DONE
    } else {
        FAILED
    }
}

fn say_failed(args: &Args, error: &str) -> u8 {
    if args.socket.json {
        println!("{}", serde_json::json!(Answer::failed(error)));
    } else {
        eprintln!("devourd reload: {error}");
    }
    FAILED
}
