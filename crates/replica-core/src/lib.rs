//! One partition replica: append, fetch, truncate, ISR, high watermark, producer state.
