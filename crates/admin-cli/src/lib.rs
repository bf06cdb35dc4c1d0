//! thalweg: the operator's tool, and thalweg dev, all three services in one process.
