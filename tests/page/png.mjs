// Screenshots of text have few colours: 256 of them look the same and take a third of the space.
import { deflateSync, inflateSync } from 'node:zlib';

const SIGNATURE = Buffer.from('89504e470d0a1a0a', 'hex');

function* chunks(png) {
  for (let at = 8; at < png.length; at += 12 + png.readUInt32BE(at)) {
    yield [png.toString('latin1', at + 4, at + 8), png.subarray(at + 8, at + 8 + png.readUInt32BE(at))];
  }
}

/** Width, height and the pixels as RGB of what Chromium writes: 8 bits, RGB or RGBA, not interlaced. */
function read(png) {
  const found = [...chunks(png)];
  const [, head] = found.find(([kind]) => kind === 'IHDR');
  const [width, height, bytes] = [head.readUInt32BE(0), head.readUInt32BE(4), head[9] === 6 ? 4 : 3];
  const raw = inflateSync(Buffer.concat(found.filter(([kind]) => kind === 'IDAT').map(([, data]) => data)));
  const stride = width * bytes;
  const pixels = Buffer.alloc(height * stride);
  for (let y = 0; y < height; y += 1) {
    const filter = raw[y * (stride + 1)];
    for (let x = 0; x < stride; x += 1) {
      const here = y * stride + x;
      const left = x >= bytes ? pixels[here - bytes] : 0;
      const up = y > 0 ? pixels[here - stride] : 0;
      const corner = x >= bytes && y > 0 ? pixels[here - stride - bytes] : 0;
      const [a, b, c] = [up - corner, left - corner, left + up - 2 * corner].map(Math.abs);
      const paeth = a <= b && a <= c ? left : b <= c ? up : corner;
      const guess = [0, left, up, (left + up) >> 1, paeth][filter];
      pixels[here] = raw[y * (stride + 1) + 1 + x] + guess;
    }
  }
  return { width, height, bytes, pixels };
}

function chunk(kind, data) {
  const out = Buffer.alloc(12 + data.length);
  out.writeUInt32BE(data.length, 0);
  out.write(kind, 4, 'latin1');
  data.copy(out, 8);
  let crc = ~0;
  for (const byte of out.subarray(4, 8 + data.length)) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  out.writeUInt32BE(~crc >>> 0, 8 + data.length);
  return out;
}

/** The same picture with a palette: the most frequent colours, and for each other one the nearest of them. */
export function smaller(png) {
  const { width, height, bytes, pixels } = read(png);
  const counts = new Map();
  for (let at = 0; at < pixels.length; at += bytes) {
    const colour = pixels.readUIntBE(at, 3);
    counts.set(colour, (counts.get(colour) ?? 0) + 1);
  }
  const palette = [...counts].sort(([, a], [, b]) => b - a).slice(0, 256).map(([colour]) => colour);
  const index = new Map(palette.map((colour, i) => [colour, i]));
  const parts = (colour) => [colour >> 16, (colour >> 8) & 255, colour & 255];
  const far = (one, other) => parts(one).reduce((sum, part, i) => sum + (part - parts(other)[i]) ** 2, 0);
  for (const colour of counts.keys()) {
    if (index.has(colour)) continue;
    let best = 0;
    for (let i = 1; i < palette.length; i += 1) if (far(colour, palette[i]) < far(colour, palette[best])) best = i;
    index.set(colour, best);
  }
  const rows = Buffer.alloc(height * (width + 1));
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      rows[y * (width + 1) + 1 + x] = index.get(pixels.readUIntBE((y * width + x) * bytes, 3));
    }
  }
  const head = Buffer.alloc(13);
  head.writeUInt32BE(width, 0);
  head.writeUInt32BE(height, 4);
  head.set([8, 3, 0, 0, 0], 8);
  const colours = Buffer.from(palette.flatMap(parts));
  return Buffer.concat([
    SIGNATURE, chunk('IHDR', head), chunk('PLTE', colours), chunk('IDAT', deflateSync(rows, { level: 9 })),
    chunk('IEND', Buffer.alloc(0)),
  ]);
}
