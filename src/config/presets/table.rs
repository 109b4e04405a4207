//! What is known of each provider. Where it is known from, and what is not verified, stands in `docs/providers.md`.
//!
//! "Unverified" says that no document of the maker could be read for it; such a key is a guess that can be overruled.

use super::{Audience, Need, Preset};

const BASE: Preset = Preset {
    name: "",
    title: "",
    keys: &[],
    needs: &[],
    find_endpoint: "",
    token_path: "",
    issuer_path: "",
    refused: &[],
    scope_end: None,
    audience: Audience::Usual,
    init: "",
};

const fn need(key: &'static [&'static str], cure: &'static str) -> Need {
    Need { key, or: "", cure }
}

pub const TABLE: &[Preset] = &[
    Preset {
        name: "verint-identity",
        title: "Verint Identity",
        // Unverified: how the client proves who it is, and whether a scope is needed.
        keys: &[(&["auth"], "client_secret_basic")],
        find_endpoint: "the issuer or the token URL comes with the credentials from Verint, and is that of your \
                        compliance zone",
        init: "\
issuer: https://api.verint.com/vcp/identity/us/auth/v2   # of your zone; or the `token_url` you were given
credentials:   # Verint hands out two whole sets; the second stands by
  - {client_id: CLIENT-ID, client_secret: {file: /run/secrets/verint-current}}
  - {client_id: STANDBY-CLIENT-ID, client_secret: {file: /run/secrets/verint-standby}}
# auth: client_secret_post   # if the provider rejects the default, client_secret_basic
",
        ..BASE
    },
    Preset {
        name: "verint-coaching",
        title: "Verint Coaching (Cogito)",
        keys: &[(&["auth"], "client_secret_basic")],
        find_endpoint: "write `token_url: https://auth.DOMAIN/auth/realms/TENANT/protocol/openid-connect/token`, with \
                        the domain and the tenant that Verint gave you",
        token_path: "*/realms/*/protocol/openid-connect/token",
        issuer_path: "*/realms/*",
        init: "\
token_url: https://auth.DOMAIN/auth/realms/TENANT/protocol/openid-connect/token
client_id: CLIENT-ID
client_secret: {file: /run/secrets/verint-coaching}
",
        ..BASE
    },
    Preset {
        name: "authgear",
        title: "Authgear",
        // Basic is taken too, but only post is documented.
        keys: &[(&["auth"], "client_secret_post")],
        needs: &[need(
            &["resource"],
            "Authgear gives no token without it: the URI of the API resource, as the portal lists it under API Resources",
        )],
        find_endpoint: "write `issuer: https://PROJECT.authgear.cloud`, which is the endpoint of the project in the portal",
        token_path: "/oauth2/token",
        refused: &[("*/oauth/token", "Authgear does not answer here", "its token endpoint is `/oauth2/token`")],
        init: "\
token_url: https://PROJECT.authgear.cloud/oauth2/token
client_id: CLIENT-ID
client_secret: {file: /run/secrets/authgear}
resource: https://API-RESOURCE   # the URI of the API resource in the portal
",
        ..BASE
    },
    Preset {
        name: "servicenow",
        title: "ServiceNow",
        keys: &[
            (&["auth"], "client_secret_post"),
            (&["request_format"], "form"),
            // Asked earlier it hands out the same token once more, with what is left of its half hour.
            (&["refresh", "early"], "2%"),
        ],
        find_endpoint: "write `token_url: https://INSTANCE.service-now.com/oauth_token.do`",
        token_path: "/oauth_token.do",
        init: "\
token_url: https://INSTANCE.service-now.com/oauth_token.do
client_id: CLIENT-ID
client_secret: {file: /run/secrets/servicenow}
",
        ..BASE
    },
    Preset {
        name: "okta",
        title: "Okta, a custom authorization server",
        keys: &[(&["auth"], "client_secret_basic")],
        needs: &[need(
            &["scope"],
            "Okta wants at least one custom scope of the authorization server: Security > API > your server > Scopes",
        )],
        find_endpoint: "write `token_url: https://ORG.okta.com/oauth2/SERVER/v1/token`; `default` is such a server. For \
                        Okta's own APIs use `provider: okta-org`",
        token_path: "/oauth2/*/v1/token",
        issuer_path: "/oauth2/*",
        audience: Audience::TokenUrl,
        init: "\
token_url: https://ORG.okta.com/oauth2/default/v1/token   # default: the authorization server
client_id: CLIENT-ID
client_secret: {file: /run/secrets/okta}
scope: CUSTOM-SCOPE   # at least one of the authorization server's own
",
        ..BASE
    },
    Preset {
        name: "okta-org",
        title: "Okta, the org authorization server",
        keys: &[(&["auth"], "private_key_jwt")],
        needs: &[need(
            &["scope"],
            "Okta's own APIs have scopes such as `okta.users.read`, granted to the app under Okta API Scopes",
        )],
        find_endpoint: "write `token_url: https://ORG.okta.com/oauth2/v1/token`. For a custom authorization server use \
                        `provider: okta`",
        token_path: "/oauth2/v1/token",
        audience: Audience::TokenUrl,
        init: "\
token_url: https://ORG.okta.com/oauth2/v1/token
client_id: CLIENT-ID
private_key: {file: /run/secrets/okta.pem}   # the public half is at the app, under Client Credentials
key_id: KEY-ID
scope: okta.users.read   # granted under Okta API Scopes
",
        ..BASE
    },
    Preset {
        name: "keycloak",
        title: "Keycloak",
        keys: &[(&["auth"], "client_secret_basic")],
        find_endpoint: "write `issuer: https://HOST/realms/REALM`, or `https://HOST/auth/realms/REALM` where the server \
                        still has the old prefix",
        token_path: "*/protocol/openid-connect/token",
        issuer_path: "*realms/*",
        init: "\
token_url: https://HOST/realms/REALM/protocol/openid-connect/token   # /auth/realms/… on an older server
client_id: CLIENT-ID
client_secret: {file: /run/secrets/keycloak}   # Clients > your client > Credentials
",
        ..BASE
    },
    Preset {
        name: "auth0",
        title: "Auth0",
        keys: &[(&["auth"], "client_secret_post")],
        needs: &[need(
            &["audience"],
            "Auth0 wants the identifier of the API: Applications > APIs > your API > Identifier",
        )],
        find_endpoint: "write `token_url: https://TENANT.auth0.com/oauth/token`, with the domain of the application",
        token_path: "/oauth/token",
        audience: Audience::Origin,
        init: "\
token_url: https://TENANT.auth0.com/oauth/token
client_id: CLIENT-ID
client_secret: {file: /run/secrets/auth0}
audience: https://API-IDENTIFIER   # the identifier of the API
",
        ..BASE
    },
    Preset {
        name: "entra",
        title: "Microsoft Entra ID",
        keys: &[
            (&["auth"], "client_secret_post"),
            // For a certificate; a key of it alone is an RSA key.
            (&["assertion", "alg"], "PS256"),
            (&["assertion", "lifetime"], "5m"),
        ],
        needs: &[Need {
            // The first version of the endpoint has a resource instead (unverified).
            or: "resource",
            ..need(&["scope"], "write the Application ID URI of the API with `/.default`: `api://APP-ID/.default`")
        }],
        find_endpoint: "write `token_url: https://login.microsoftonline.com/TENANT/oauth2/v2.0/token`, with the directory \
                        (tenant) ID of the app registration",
        token_path: "/*/oauth2/v2.0/token",
        issuer_path: "/*/v2.0",
        scope_end: Some("/.default"),
        audience: Audience::TokenUrl,
        init: "\
token_url: https://login.microsoftonline.com/TENANT-ID/oauth2/v2.0/token
client_id: APPLICATION-ID
client_secret: {file: /run/secrets/entra}
scope: api://API-APPLICATION-ID/.default   # one API, and nothing but its /.default
",
        ..BASE
    },
    Preset {
        name: "cognito",
        title: "Amazon Cognito",
        keys: &[(&["auth"], "client_secret_basic")],
        find_endpoint: "write `token_url: https://DOMAIN/oauth2/token`, with the domain of the user pool under Branding > \
                        Domain",
        token_path: "/oauth2/token",
        init: "\
token_url: https://PREFIX.auth.REGION.amazoncognito.com/oauth2/token
client_id: CLIENT-ID
client_secret: {file: /run/secrets/cognito}   # the app client must have one
scope: RESOURCE-SERVER/SCOPE   # left out: all that the client may have
",
        ..BASE
    },
    Preset {
        name: "salesforce",
        title: "Salesforce",
        keys: &[
            (&["auth"], "client_secret_post"),
            // The answer has no lifetime: the session's timeout counts. Unverified: 15 min is the shortest there is.
            (&["refresh", "assumed_lifetime"], "15m"),
        ],
        find_endpoint: "write `token_url: https://MY-DOMAIN.my.salesforce.com/services/oauth2/token`; Setup > My Domain \
                        tells the name",
        token_path: "/services/oauth2/token",
        refused: &[
            (
                "https://login.salesforce.com*",
                "Salesforce refuses client credentials at its common login",
                "use My Domain: `https://MY-DOMAIN.my.salesforce.com/services/oauth2/token`",
            ),
            (
                "https://test.salesforce.com*",
                "Salesforce refuses client credentials at its common login",
                "use My Domain: `https://MY-DOMAIN--SANDBOX.sandbox.my.salesforce.com/services/oauth2/token`",
            ),
        ],
        init: "\
token_url: https://MY-DOMAIN.my.salesforce.com/services/oauth2/token
client_id: CONSUMER-KEY
client_secret: {file: /run/secrets/salesforce}   # the consumer secret
refresh: {assumed_lifetime: 15m}   # the session's timeout, or less: the answer does not tell it
",
        ..BASE
    },
    Preset {
        name: "zoom",
        title: "Zoom, Server-to-Server OAuth",
        keys: &[
            (&["token_url"], "https://zoom.us/oauth/token"),
            (&["auth"], "client_secret_basic"),
            (&["grant_type"], "account_credentials"),
        ],
        needs: &[need(
            &["params", "account_id"],
            "write `params: {account_id: …}`; the app's page App Credentials shows it beside the client ID",
        )],
        token_path: "/oauth/token",
        init: "\
client_id: CLIENT-ID
client_secret: {file: /run/secrets/zoom}
params: {account_id: ACCOUNT-ID}   # App Credentials shows all three
",
        ..BASE
    },
    Preset {
        name: "sap-xsuaa",
        title: "SAP XSUAA",
        // In the form, because its Basic takes identifier and secret raw or encoded as a header of the request says.
        keys: &[(&["auth"], "client_secret_post")],
        find_endpoint: "write `token_url` as the binding's `url` with `/oauth/token` behind it; with a client certificate \
                        its `certurl`",
        token_path: "/oauth/token",
        init: "\
token_url: https://SUBDOMAIN.authentication.REGION.hana.ondemand.com/oauth/token   # `url`, and the path
client_id: CLIENT-ID   # `clientid` of the binding
client_secret: {file: /run/secrets/xsuaa}   # its `clientsecret`
",
        ..BASE
    },
    Preset {
        name: "google-sa",
        title: "Google, a service account",
        // Not client credentials: the assertion itself is the grant (RFC 7523, 2.1).
        keys: &[
            (&["token_url"], "https://oauth2.googleapis.com/token"),
            (&["auth"], "private_key_jwt"),
            (&["grant_type"], "urn:ietf:params:oauth:grant-type:jwt-bearer"),
            (&["assertion", "alg"], "RS256"),
        ],
        needs: &[need(
            &["assertion", "claims", "scope"],
            "the scope stands in the assertion: `assertion: {claims: {scope: https://www.googleapis.com/auth/…}}`",
        )],
        token_path: "/token",
        audience: Audience::TokenUrl,
        init: "\
client_id: NAME@PROJECT.iam.gserviceaccount.com   # `client_email` of the key's JSON
private_key: {file: /run/secrets/google.pem}   # jq -r .private_key KEY.json > google.pem
key_id: PRIVATE-KEY-ID   # its `private_key_id`
assertion: {claims: {scope: https://www.googleapis.com/auth/cloud-platform}}
",
        ..BASE
    },
];
