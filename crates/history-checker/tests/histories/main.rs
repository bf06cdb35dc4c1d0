//! `text.rs`: the text form.

mod text;
