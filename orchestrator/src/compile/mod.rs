//! The compile service: the host compiles what a guest preprocessed.
