// As fetch.py, by Node: node fetch.mjs NAME...
import net from "node:net";
import fs from "node:fs";

const BEAT_MS = 5;
let [longest, last] = [0, performance.now()];
const heart = setInterval(() => {
    const now = performance.now();
    [longest, last] = [Math.max(longest, now - last), now];
}, BEAT_MS);

const fetch = name => new Promise(done => {
    const pieces = [];
    const socket = net.connect({ host: name, port: 80, autoSelectFamily: false });
    socket.on("connect", () => socket.write(`GET / HTTP/1.0\r\nHost: ${name}\r\n\r\n`));
    socket.on("data", piece => pieces.push(piece));
    socket.on("error", error => { console.log(`${name}: ${error.code}`); done(); });
    socket.on("end", () => {
        const all = Buffer.concat(pieces);
        fs.writeFileSync(name, all.subarray(all.indexOf("\r\n\r\n") + 4));
        done();
    });
});

await Promise.all(process.argv.slice(2).map(fetch));
clearInterval(heart);
console.log(`longest gap ${longest.toFixed(0)} ms`);
