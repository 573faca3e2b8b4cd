//! What tells programs of the proxy.

/// Port of the proxy on the loopback interface of the hands' own network.
pub const PROXY_PORT: u16 = 3128;

/// Variables that lead HTTP clients through the proxy: the common ones in both spellings, and those of npm, cargo, Go and Node.
///
/// What listens inside, on the loopback interface, is reached directly.
pub fn environment() -> Vec<(&'static str, String)> {
    let proxy = format!("http://127.0.0.1:{PROXY_PORT}");
    let through = [
        "http_proxy",
        "HTTP_PROXY",
        "https_proxy",
        "HTTPS_PROXY",
        "all_proxy",
        "ALL_PROXY",
        "npm_config_proxy",
        "npm_config_https_proxy",
        "CARGO_HTTP_PROXY",
    ];
    let inside = "localhost,127.0.0.1,::1";
    let mut all: Vec<(&'static str, String)> = through.into_iter().map(|name| (name, proxy.clone())).collect();
    all.extend(["no_proxy", "NO_PROXY", "npm_config_noproxy"].map(|name| (name, inside.to_owned())));
    // Cargo's own git does not know every proxy; Node knows the variables only when told.
    all.extend([("CARGO_NET_GIT_FETCH_WITH_CLI", "true".to_owned()), ("NODE_USE_ENV_PROXY", "1".to_owned())]);
    all
}

/// Variables that make programs trust the authorities of a file (PEM): those of OpenSSL and what is built on it, curl, Python,
/// pip, Node, npm, cargo, git, Deno and the AWS tools. The file has to hold the public authorities too.
pub fn trust(file: &str) -> Vec<(&'static str, String)> {
    let names = [
        "SSL_CERT_FILE",
        "CURL_CA_BUNDLE",
        "REQUESTS_CA_BUNDLE",
        "PIP_CERT",
        "NODE_EXTRA_CA_CERTS",
        "npm_config_cafile",
        "CARGO_HTTP_CAINFO",
        "GIT_SSL_CAINFO",
        "DENO_CERT",
        "AWS_CA_BUNDLE",
    ];
    names.into_iter().map(|name| (name, file.to_owned())).collect()
}
