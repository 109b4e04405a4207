// Java's own HttpClient, run from this one file: `java App.java`. It asks every http:// server for HTTP/2 by `Upgrade`,
// and reads no variable: a proxy is told to it.
import java.io.BufferedReader;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.net.CookieManager;
import java.net.InetSocketAddress;
import java.net.ProxySelector;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.net.http.WebSocket;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.HexFormat;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.zip.GZIPInputStream;

class App {
    static final String BASE = System.getenv("BASE") + System.getenv("PREFIX");
    static final Path UPLOAD = Path.of(System.getenv("UPLOAD"));
    static final String QUERY = "/get?q=a%2Fb%20c&x=%C3%BC";
    static final HttpClient APP = client(HttpClient.Version.HTTP_2);

    static HttpClient client(HttpClient.Version version) {
        HttpClient.Builder builder = HttpClient.newBuilder().version(version)
            .followRedirects(HttpClient.Redirect.NORMAL).cookieHandler(new CookieManager());
        String proxy = System.getenv(BASE.startsWith("https:") ? "HTTPS_PROXY" : "HTTP_PROXY");
        if (!System.getenv("MODE").equals("base")) {
            URI at = URI.create(proxy);
            builder.proxy(ProxySelector.of(new InetSocketAddress(at.getHost(), at.getPort())));
        }
        return builder.build();
    }

    static HttpRequest.Builder to(String path) {
        return HttpRequest.newBuilder(URI.create(BASE + path));
    }

    static HttpResponse<String> send(HttpRequest.Builder request) throws Exception {
        return APP.send(request.build(), BodyHandlers.ofString());
    }

    static String text(HttpRequest.Builder request) throws Exception {
        HttpResponse<String> answer = send(request);
        return answer.statusCode() + " " + answer.body();
    }

    static String sha256(byte[] data) throws Exception {
        return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(data));
    }

    static String outcome(String name) throws Exception {
        switch (name) {
            case "get": return text(to(QUERY));
            case "http1": {
                HttpClient one = client(HttpClient.Version.HTTP_1_1);
                return one.send(to(QUERY).build(), BodyHandlers.ofString()).statusCode() + "";
            }
            case "own-credential":
                return text(to(QUERY).header("Authorization", "Bearer forged").header("X-App", "mine"));
            case "head": {
                HttpResponse<String> answer = send(to("/get").method("HEAD", BodyPublishers.noBody()));
                String length = answer.headers().firstValue("content-length").get();
                return answer.statusCode() + " " + length + " " + answer.body();
            }
            case "no-content": return text(to("/thing").DELETE());
            case "missing": return text(to("/missing"));
            case "form":
                return text(to("/form").header("Content-Type", "application/x-www-form-urlencoded")
                    .POST(BodyPublishers.ofString("a=1&b=2")));
            case "upload": return text(to("/upload").PUT(BodyPublishers.ofFile(UPLOAD)));
            case "chunked": return text(to("/upload").POST(BodyPublishers.ofInputStream(() -> {
                try {
                    return Files.newInputStream(UPLOAD);
                } catch (Exception error) {
                    throw new RuntimeException(error);
                }
            })));
            case "expect": return text(to("/upload").expectContinue(true).PUT(BodyPublishers.ofFile(UPLOAD)));
            case "download": {
                HttpResponse<byte[]> answer = APP.send(to("/download").build(), BodyHandlers.ofByteArray());
                return answer.statusCode() + " " + sha256(answer.body());
            }
            case "gzip": {
                HttpRequest request = to("/gzip").header("Accept-Encoding", "gzip").build();
                HttpResponse<InputStream> answer = APP.send(request, BodyHandlers.ofInputStream());
                String body = new String(new GZIPInputStream(answer.body()).readAllBytes());
                return answer.statusCode() + " " + body;
            }
            case "redirect": return text(to("/redirect"));
            case "redirect-absolute": return text(to("/redirect-absolute"));
            case "range": {
                HttpResponse<String> answer = send(to("/range").header("Range", "bytes=5-9"));
                String range = answer.headers().firstValue("content-range").get();
                return answer.statusCode() + " " + answer.body() + " " + range;
            }
            case "cookies":
                text(to("/set-cookie"));
                return text(to("/cookie"));
            case "events": {
                HttpResponse<InputStream> answer = APP.send(to("/events").build(), BodyHandlers.ofInputStream());
                BufferedReader lines = new BufferedReader(new InputStreamReader(answer.body()));
                String first = lines.readLine();
                text(to("/acknowledge"));
                String rest = lines.lines().filter(line -> !line.isEmpty()).collect(Collectors.joining(" "));
                return answer.statusCode() + " " + first + " " + rest;
            }
            case "many": {
                List<CompletableFuture<HttpResponse<String>>> answers = IntStream.range(0, 50)
                    .mapToObj(i -> APP.sendAsync(to(QUERY).build(), BodyHandlers.ofString())).toList();
                long good = 0;
                for (CompletableFuture<HttpResponse<String>> answer : answers) {
                    good += answer.get(20, TimeUnit.SECONDS).statusCode() == 200 ? 1 : 0;
                }
                return good + "";
            }
            case "websocket": {
                Echo echo = new Echo();
                URI url = URI.create("ws" + BASE.substring("http".length()) + "/socket");
                WebSocket socket = APP.newWebSocketBuilder().buildAsync(url, echo).get(20, TimeUnit.SECONDS);
                socket.sendText("hello", true).get(20, TimeUnit.SECONDS);
                String text = echo.text.get(20, TimeUnit.SECONDS);
                socket.sendBinary(ByteBuffer.allocate(70_000), true).get(20, TimeUnit.SECONDS);
                return text + " " + echo.bytes.get(20, TimeUnit.SECONDS);
            }
            default: throw new IllegalArgumentException(name);
        }
    }

    static class Echo implements WebSocket.Listener {
        final CompletableFuture<String> text = new CompletableFuture<>();
        final CompletableFuture<Integer> bytes = new CompletableFuture<>();
        private int length = 0;

        public CompletionStage<?> onText(WebSocket socket, CharSequence data, boolean last) {
            text.complete(data.toString());
            socket.request(1);
            return null;
        }

        public CompletionStage<?> onBinary(WebSocket socket, ByteBuffer data, boolean last) {
            length += data.remaining();
            if (last) bytes.complete(length);
            socket.request(1);
            return null;
        }
    }

    public static void main(String[] arguments) {
        for (String name : System.getenv("CASES").split(",")) {
            String outcome;
            try {
                outcome = outcome(name);
            } catch (Exception error) {
                outcome = "failed: " + error + " " + error.getCause();
            }
            System.out.println(name + "\t" + outcome.replace('\n', ' '));
        }
        System.exit(0);
    }
}
