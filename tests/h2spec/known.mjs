// What fails, and why that is no harm; for each way to reach bearerd.
export const KNOWN = {
  'in clear': new Map([
    // One port takes HTTP/1 and HTTP/2. What does not begin as HTTP/2 is for HTTP/1 to refuse, which it does with a 400 and
    // the end of the connection; h2spec would have it end by GOAWAY or without a word.
    ['http2/3.5: Sends invalid connection preface', 'it is answered as HTTP/1'],
  ]),
  'over TLS': new Map(),
};
