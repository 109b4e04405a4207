#!/bin/bash
# curl, as it is typed. It reads http_proxy, https_proxy and no_proxy; `-q` keeps the user's own set-up out.
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
url=$BASE$PREFIX
ask() {
    : >"$folder/body"
    printf '%s ' "$(curl -q -sS --max-time 30 -o "$folder/body" -w '%{http_code}' "$@" 2>"$folder/error")"
    cat "$folder/body" "$folder/error" | tr '\n' ' '
}
sum() { sha256sum "$folder/body" | cut -d' ' -f1; }
for name in ${CASES//,/ }; do
    printf '%s\t' "$name"
    case $name in
    get) ask "$url/get?q=a%2Fb%20c&x=%C3%BC" ;;
    own-credential) ask -H 'Authorization: Bearer forged' -H 'X-App: mine' "$url/get?q=a%2Fb%20c&x=%C3%BC" ;;
    http10) ask --http1.0 "$url/get?q=a%2Fb%20c&x=%C3%BC" ;;
    h2-prior-knowledge) ask --http2-prior-knowledge -w '%{http_version} %{http_code}' "$url/get?q=a%2Fb%20c&x=%C3%BC" ;;
    h2-upgrade) ask --http2 "$url/get?q=a%2Fb%20c&x=%C3%BC" ;;
    head) curl -q -sSI "$url/get" | tr -d '\r' >"$folder/head"
        printf '%s %s ' "$(head -1 "$folder/head" | cut -d' ' -f2)" "$(sed -n 's/^content-length: //Ip' "$folder/head")" ;;
    no-content) ask -X DELETE "$url/thing" ;;
    missing) ask "$url/missing" ;;
    form) ask -d a=1 -d b=2 "$url/form" ;;
    upload) ask -T "$UPLOAD" "$url/upload" ;;
    chunked) ask -X POST -T - "$url/upload" <"$UPLOAD" ;;
    expect) ask -X PUT -H 'Expect: 100-continue' --expect100-timeout 20 --data-binary "@$UPLOAD" "$url/upload" ;;
    download) ask "$url/download" >/dev/null; printf '200 %s' "$(sum)" ;;
    gzip) ask --compressed "$url/gzip" ;;
    redirect) ask -L "$url/redirect" ;;
    redirect-absolute) ask -L "$url/redirect-absolute" ;;
    range) ask -r 5-9 -D "$folder/head" "$url/range"
        sed -n 's/^content-range: / /Ip' "$folder/head" | tr -d '\r\n' ;;
    cookies) ask -c "$folder/jar" "$url/set-cookie" >/dev/null; ask -b "$folder/jar" "$url/cookie" ;;
    events) mkfifo "$folder/events"
        curl -q -sSN "$url/events" >"$folder/events" &
        { read -r first; curl -q -sS "$url/acknowledge"; rest=$(tr '\n' ' '); } <"$folder/events"
        wait $!
        printf '200 %s %s' "$first" "$(echo $rest)" ;;
    many) curl -q -sS -o "$folder/body" -w '%{http_code}\n' "$url/get?n=[1-50]" | grep -c '^200$' | tr -d '\n' ;;
    esac
    echo
done
