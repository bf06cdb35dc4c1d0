//! RecordBatch v2: the bytes that are stored and carried.
