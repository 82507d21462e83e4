//! `devourd schema`: the JSON Schema of the settings, for editors.

use super::DONE;

pub(super) fn run() -> u8 {
    println!("{:#}", crate::settings::json_schema());
    DONE
}
