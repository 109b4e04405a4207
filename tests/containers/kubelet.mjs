// A ConfigMap or a Secret as a kubelet keeps it in a volume: each file is a link into `..data`, which is a link to a folder
// with a time for a name; another content is another folder, to which `..data` is swapped by a rename, and then the old one
// goes (k8s.io/kubernetes/pkg/volume/util/atomic_writer.go).
import { chmodSync, existsSync, mkdirSync, readlinkSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

let count = 0;

/** Puts `files`, contents by name, into `volume`, which is made if it is not there. */
export function project(volume, files, mode = 0o644) {
  count += 1;
  if (!existsSync(volume)) {
    mkdirSync(volume);
    chmodSync(volume, 0o777);
  }
  const folder = `..2026_01_02_03_04_05.${count}`;
  mkdirSync(join(volume, folder));
  chmodSync(join(volume, folder), 0o755);
  for (const [name, content] of Object.entries(files)) {
    writeFileSync(join(volume, folder, name), content);
    chmodSync(join(volume, folder, name), mode);
  }
  const data = join(volume, '..data');
  const old = existsSync(data) ? readlinkSync(data) : undefined;
  symlinkSync(folder, join(volume, '..data_tmp'));
  renameSync(join(volume, '..data_tmp'), data);
  for (const name of Object.keys(files)) {
    if (!existsSync(join(volume, name))) symlinkSync(join('..data', name), join(volume, name));
  }
  if (old !== undefined) rmSync(join(volume, old), { recursive: true });
}
