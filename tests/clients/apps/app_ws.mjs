// The package `ws`.
import { once } from 'node:events';
import WebSocket from 'ws';
import { BASE, run } from './common.mjs';

await run({
  websocket: async () => {
    const socket = new WebSocket(`${BASE.replace(/^http/, 'ws')}/socket`);
    await once(socket, 'open');
    socket.send('hello');
    const [text] = await once(socket, 'message');
    socket.send(Buffer.alloc(70_000));
    const [bytes] = await once(socket, 'message');
    socket.close();
    return `${text} ${bytes.length}`;
  },
});
