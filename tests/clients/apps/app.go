// Go's net/http with its default transport, which reads HTTP_PROXY, HTTPS_PROXY and NO_PROXY; `go run app.go`.
package main

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
)

var (
	base   = os.Getenv("BASE") + os.Getenv("PREFIX")
	query  = "/get?q=a%2Fb%20c&x=%C3%BC"
	jar, _ = cookiejar.New(nil)
	app    = &http.Client{Jar: jar}
)

func do(method, path string, body io.Reader, headers ...string) (*http.Response, error) {
	request, err := http.NewRequest(method, base+path, body)
	if err != nil {
		return nil, err
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	return app.Do(request)
}

func said(answer *http.Response, err error) (string, error) {
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	return fmt.Sprintf("%d %s", answer.StatusCode, body), err
}

func outcome(name string) (string, error) {
	switch name {
	case "get":
		return said(do("GET", query, nil))
	case "own-credential":
		return said(do("GET", query, nil, "Authorization", "Bearer forged", "X-App", "mine"))
	case "head":
		answer, err := do("HEAD", "/get", nil)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("%d %d ", answer.StatusCode, answer.ContentLength), nil
	case "no-content":
		return said(do("DELETE", "/thing", nil))
	case "missing":
		return said(do("GET", "/missing", nil))
	case "form":
		return said(app.PostForm(base+"/form", url.Values{"a": {"1"}, "b": {"2"}}))
	case "upload", "chunked", "expect":
		file, err := os.Open(os.Getenv("UPLOAD"))
		if err != nil {
			return "", err
		}
		if name == "chunked" {
			return said(do("POST", "/upload", io.MultiReader(file)))
		}
		request, _ := http.NewRequest("PUT", base+"/upload", file)
		info, _ := file.Stat()
		request.ContentLength = info.Size()
		if name == "expect" {
			request.Header.Set("Expect", "100-continue")
		}
		return said(app.Do(request))
	case "download":
		answer, err := do("GET", "/download", nil)
		if err != nil {
			return "", err
		}
		digest := sha256.New()
		_, err = io.Copy(digest, answer.Body)
		return fmt.Sprintf("%d %x", answer.StatusCode, digest.Sum(nil)), err
	case "gzip":
		return said(do("GET", "/gzip", nil))
	case "redirect":
		return said(do("GET", "/redirect", nil))
	case "redirect-absolute":
		return said(do("GET", "/redirect-absolute", nil))
	case "range":
		answer, err := do("GET", "/range", nil, "Range", "bytes=5-9")
		text, err := said(answer, err)
		if err != nil {
			return "", err
		}
		return text + " " + answer.Header.Get("Content-Range"), nil
	case "cookies":
		if _, err := said(do("GET", "/set-cookie", nil)); err != nil {
			return "", err
		}
		return said(do("GET", "/cookie", nil))
	case "events":
		answer, err := do("GET", "/events", nil)
		if err != nil {
			return "", err
		}
		lines := bufio.NewScanner(answer.Body)
		lines.Scan()
		all := []string{lines.Text()}
		if _, err := said(do("GET", "/acknowledge", nil)); err != nil {
			return "", err
		}
		for lines.Scan() {
			if lines.Text() != "" {
				all = append(all, lines.Text())
			}
		}
		return fmt.Sprintf("%d %s", answer.StatusCode, strings.Join(all, " ")), lines.Err()
	case "trailers":
		answer, err := do("GET", "/trailers", nil, "TE", "trailers")
		text, err := said(answer, err)
		if err != nil {
			return "", err
		}
		return text + " " + answer.Trailer.Get("X-Checksum"), nil
	case "many":
		var good atomic.Int32
		var group sync.WaitGroup
		for i := 0; i < 50; i++ {
			group.Add(1)
			go func() {
				defer group.Done()
				if text, err := said(do("GET", query, nil)); err == nil && strings.HasPrefix(text, "200 ") {
					good.Add(1)
				}
			}()
		}
		group.Wait()
		return fmt.Sprint(good.Load()), nil
	}
	return "", fmt.Errorf("no case %s", name)
}

func main() {
	for _, name := range strings.Split(os.Getenv("CASES"), ",") {
		text, err := outcome(name)
		if err != nil {
			text = "failed: " + err.Error()
		}
		fmt.Printf("%s\t%s\n", name, strings.ReplaceAll(text, "\n", " "))
	}
}
