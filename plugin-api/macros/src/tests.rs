//! What the attribute says of a block that it cannot make a consumer of, and that it takes those that it can.

use proc_macro2::TokenStream;
use quote::quote;

use crate::expand;

/// What is said of this block under these arguments.
fn said(arguments: TokenStream, methods: TokenStream) -> String {
    match expand::consumer(arguments, quote! { impl Orders { #methods } }) {
        Ok(_) => "fine".to_owned(),
        Err(error) => error.to_string(),
    }
}

fn says(arguments: TokenStream, methods: TokenStream, expected: &str) {
    let said = said(arguments, methods);
    assert!(said.contains(expected), "{said}");
}

#[test]
fn an_async_digest_takes_itself_by_shared_reference() {
    for receiver in [quote! { &mut self }, quote! { self }, quote! { mut self }] {
        says(
            quote! {},
            quote! { async fn digest(#receiver, offset: i64, id: u64) {} },
            "an async digest takes `&self`: many of them run at once",
        );
    }
    says(
        quote! {},
        quote! { async fn digest(offset: i64) {} },
        "an async digest takes `&self`",
    );
    assert_eq!(
        said(
            quote! {},
            quote! { async fn digest(&self, offset: i64, id: u64) {} }
        ),
        "fine"
    );
}

#[test]
fn an_async_digest_takes_one_message() {
    says(
        quote! {},
        quote! { async fn digest_batch(&self, batch: &mut Batch<Json<u64>>) {} },
        "an async digest takes one message",
    );
}

#[test]
fn digests_are_all_async_or_none() {
    let methods = quote! {
        #[digest] async fn one(&self, offset: i64, id: u64) {}
        #[digest] fn other(&mut self, offset: i64, id: u64) {}
    };
    says(quote! {}, methods, "are all `async`, or none is");
}

#[test]
fn the_life_of_an_async_consumer_is_shared() {
    let digest = quote! { async fn digest(&self, offset: i64, id: u64) {} };
    for (step, expected) in [
        (
            quote! { fn started(&mut self) {} },
            "in an async consumer `started` takes `&self`",
        ),
        (
            quote! { async fn revoked(&self) {} },
            "expected `async fn revoked(&self, revoked: &Revoked) -> Result<(), DigestError>`",
        ),
        (
            quote! { async fn construct(context: ConsumerContext) -> Result<Self, DigestError> {} },
            "`construct` is not `async`",
        ),
        (
            quote! { async fn flush(&self) {} },
            "an async consumer has no `flush`: a message is done when its digest returned",
        ),
    ] {
        says(quote! {}, quote! { #digest #step }, expected);
    }
    says(
        quote! {},
        quote! { fn digest(&mut self, offset: i64, id: u64) {} async fn started(&self) {} },
        "`started` is `async` where the digests are: these are not",
    );
    let both = quote! { #digest async fn started(&self) {} fn stopped(&self) {} };
    assert_eq!(said(quote! { workers = 2 }, both), "fine");
}

#[test]
fn a_buffering_consumer_flushes_and_one_that_flushes_buffers() {
    let digest = quote! { fn digest(&mut self, offset: i64, id: u64) {} };
    let flush = quote! { fn flush(&mut self) {} };
    says(
        quote! { buffering },
        digest.clone(),
        "a `buffering` consumer has `fn flush(&mut self) -> Result<(), DigestError>`",
    );
    says(
        quote! {},
        quote! { #digest #flush },
        "`flush` is called for a `buffering` consumer",
    );
    says(
        quote! { buffering = false },
        quote! { #digest #flush },
        "`flush` is called for a `buffering` consumer",
    );
    says(
        quote! { buffering },
        quote! { async fn digest(&self, offset: i64, id: u64) {} },
        "an async consumer is not `buffering`",
    );
    for arguments in [
        quote! { buffering },
        quote! { buffering() },
        quote! { buffering(max_wait = "5s", max_messages = 1000) },
        quote! { asynchronous },
    ] {
        assert_eq!(said(arguments, quote! { #digest #flush }), "fine");
    }
}

#[test]
fn numbers_and_durations_of_arguments_are_checked() {
    let methods = || quote! { fn digest(&mut self, offset: i64, id: u64) {} fn flush(&mut self) {} };
    let duration = "expected a duration above 0: a whole number with ms, s, m, h or d";
    for text in [
        "5",
        "s",
        "0s",
        "1.5s",
        "5 s",
        "-1s",
        "1w",
        "",
        "99999999999999999999s",
        "9999999999999999d",
    ] {
        says(quote! { buffering(max_wait = #text) }, methods(), duration);
    }
    for text in ["250ms", "5s", "1m", "2h", "1d"] {
        assert_eq!(said(quote! { buffering(max_wait = #text) }, methods()), "fine");
    }
    says(
        quote! { buffering(max_messages = 0) },
        methods(),
        "expected a number above 0",
    );
    says(
        quote! { buffering(max_wiat = "5s") },
        methods(),
        "there is no argument `max_wiat`; did you mean `max_wait`?",
    );
    says(quote! { workers = 0 }, quote! {}, "expected a number above 0");
    says(
        quote! { buffering, workers = 2 },
        methods(),
        "`workers` are the threads of async digests, and this block has none",
    );
}
