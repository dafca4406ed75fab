"""Faults put into aeon on purpose, one at a time: each must make the crash suite fail. `python -m tests.crash.mutate` runs them.

Every sync, every order of two writes, and every checksum of the write path and of recovery has its mutant. `old` must stand
exactly once in its file (a test holds that), so that a mutant never silently stops to mutate.

Left out are changes that cannot matter: a sync directly behind another of the same file; `staging`'s sync of a directory whose
MANIFEST was synced into it just before; the sync of the directory after old segments were deleted; the sync of the log before
a freeze, whose commits the generation holds itself; one of the two checks that blocks of time are of the rows there are.
"""

# ruff: noqa: E501 - one mutant a line reads as the table that it is
from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """Replace `old` by `new` in `file` (a module of aeon)."""

    name: str
    file: str
    old: str
    new: str


MUTANTS = (
    # -- syncs that are dropped --------------------------------------------------------------------------------
    Mutant("the log is not synced", "wal", "            file.fdatasync()\n        except", "            pass\n        except"),
    Mutant("full segments are not synced under off", "wal", "                old.fdatasync()\n", "                pass\n"),
    Mutant("a new segment is not synced", "wal", "        file.fsync()\n        files.fsync_dir(directory)\n", "        files.fsync_dir(directory)\n"),
    Mutant("a new segment's name is not synced", "wal", "        file.fsync()\n        files.fsync_dir(directory)\n", "        file.fsync()\n"),
    Mutant("a full segment is not synced before the next", "wal", "        if not lazy:\n            self.sync(self.appended_lsn)\n", ""),
    Mutant("a new MANIFEST is not synced", "manifest", "        file.fsync()\n", ""),
    Mutant("the MANIFEST's swap is not synced", "manifest", 'MANIFEST_NAME}")\n    files.fsync_dir(root)\n', 'MANIFEST_NAME}")\n'),
    Mutant("tables are not synced", 'generation_files', 'record_bytes, crc), 0)\n        file.fsync()\n', 'record_bytes, crc), 0)\n'),
    Mutant("arena files are not synced", "generation_files", "        self._file.fsync()\n", "        pass\n"),
    Mutant("events are not synced at a checkpoint", 'checkpoint', '            for writer in writers.values():\n                writer.sync()\n', '            for kind, writer in writers.items():\n                if kind not in (FileKind.EVENTS,):\n                    writer.sync()\n'),
    Mutant("rows are not synced at a checkpoint", 'checkpoint', '            for writer in writers.values():\n                writer.sync()\n', '            for kind, writer in writers.items():\n                if kind not in (FileKind.CODES, FileKind.ROWS):\n                    writer.sync()\n'),
    Mutant("blobs are not synced at a checkpoint", 'checkpoint', '            for writer in writers.values():\n                writer.sync()\n', '            for kind, writer in writers.items():\n                if kind not in (FileKind.BLOBS,):\n                    writer.sync()\n'),
    Mutant("a generation's names are not synced", 'checkpoint', 'tables = writer.write_tables(purging)\n    files.fsync_dir(directory)\n', 'tables = writer.write_tables(purging)\n'),
    Mutant("a generation's directory is not synced", 'checkpoint', '    files.fsync_dir(root)\n    return replace(', '    return replace('),
    Mutant("a long text is not synced", "checkpoint", "        arena.sync()\n", "        pass\n"),
    Mutant("a long text's file name is not synced", "checkpoint", "            files.fsync_dir(directory)\n", ""),
    Mutant("a long text's directory is not synced", "checkpoint", "            files.fsync_dir(directory)\n            files.fsync_dir(root)\n", "            files.fsync_dir(directory)\n"),
    Mutant("the store's own name is not synced", "opening", "        files.fsync_dir(parent(root))", "        pass"),
    Mutant("the log's directory is not synced before the MANIFEST", "opening", "    files.fsync_dir(root)\n    manifests.store", "    manifests.store"),
    Mutant("recovery forgets the root's entries", "recovery", "    files.fsync_dir(root)\n    files.fsync_dir(directory)\n", "    files.fsync_dir(directory)\n"),
    Mutant("recovery forgets the log's entries", "recovery", "    files.fsync_dir(root)\n    files.fsync_dir(directory)\n", "    files.fsync_dir(root)\n"),
    Mutant("recovery does not sync what it replayed", "recovery", "            file.fsync()\n", "            pass\n"),
    Mutant("recovery does not sync the removal of a segment", "recovery", "        files.fsync_dir(directory)\n    position", "    position"),
    # -- what readers see before it is whole -------------------------------------------------------------------
    Mutant("half a commit is shown", "engine", "                id_ += 1\n            elif", "                id_ += 1\n                self.published = (self.trace.events.count, self.atlas.codes.count, lsn)\n            elif"),
    Mutant("rows are counted before their bytes are there", "engine", "        for operation, text in zip(operations, texts, strict=True):\n", "        self.published = (self.trace.events.count, self.atlas.codes.count + sum(o.kind == OpKind.REMEMBER for o in operations), self.published[2])\n        for operation, text in zip(operations, texts, strict=True):\n"),
    # -- orders that are changed -------------------------------------------------------------------------------
    Mutant("a commit is shown before it is synced", "store", '        if self._options.durability == "full":\n            wal.sync(lsn)\n        if self._engine.view.lsn < lsn:\n            self._apply_pending()\n', '        if self._engine.view.lsn < lsn:\n            self._apply_pending()\n        if self._options.durability == "full":\n            wal.sync(lsn)\n'),
    Mutant("a commit is acknowledged before it is synced", "store", '        if self._options.durability == "full":\n            wal.sync(lsn)\n', ""),
    Mutant("others' commits are shown before they are synced", "store", '        limit = wal.durable_lsn if self._options.durability == "full" else wal.appended_lsn\n', "        limit = wal.appended_lsn\n"),
    Mutant("a sync covers what was written while it ran", "wal", "            self.durable_lsn = max(self.durable_lsn, target)\n", "            self.durable_lsn = max(self.durable_lsn, self.appended_lsn)\n"),
    Mutant("a frame is called durable before it is", "wal", "length, lsn, self.durable_lsn, first_id", "length, lsn, self.appended_lsn, first_id"),
    Mutant("frames do not say what is durable", "wal", "length, lsn, self.durable_lsn, first_id", "length, lsn, 0, first_id"),
    Mutant("a segment lies about the one before", "wal", "previous_synced=not lazy,", "previous_synced=True,"),
    Mutant("a segment is synced before its header", "wal", "        write_fully(file, data, 0)\n        file.fsync()\n", "        file.fsync()\n        write_fully(file, data, 0)\n"),
    Mutant("the MANIFEST is swapped before it is written", "manifest", "        write_fully(file, encode(manifest), 0)\n        file.fsync()\n    finally:\n        file.close()\n    files.rename(temporary, f\"{root}/{MANIFEST_NAME}\")\n", "        files.rename(temporary, f\"{root}/{MANIFEST_NAME}\")\n        write_fully(file, encode(manifest), 0)\n        file.fsync()\n    finally:\n        file.close()\n"),
    Mutant("the MANIFEST is changed in place", "manifest", "    files.rename(temporary, f\"{root}/{MANIFEST_NAME}\")\n", "    if files.exists(f\"{root}/{MANIFEST_NAME}\"):\n        files.unlink(f\"{root}/{MANIFEST_NAME}\")\n        files.fsync_dir(root)\n    files.rename(temporary, f\"{root}/{MANIFEST_NAME}\")\n"),
    Mutant("the MANIFEST comes before the log", "opening", "    start_log(files, root, manifest)\n    files.fsync_dir(root)\n    manifests.store(files, root, manifest)\n", "    manifests.store(files, root, manifest)\n    start_log(files, root, manifest)\n    files.fsync_dir(root)\n"),
    Mutant("leftovers go before recovery has synced", "opening", "        position = cut_torn_tail(files, root, manifest, replayed)\n        removed = remove_leftovers(files, root, engine)\n", "        removed = remove_leftovers(files, root, engine)\n        position = cut_torn_tail(files, root, manifest, replayed)\n"),
    Mutant("surplus segments go oldest first", "recovery", "in reversed(replayed.surplus_segments)", "in replayed.surplus_segments"),
    # -- the torn tail -----------------------------------------------------------------------------------------
    Mutant("the torn tail is not cut off", "recovery", "                file.truncate(position.offset)\n", "                pass\n"),
    Mutant("the torn tail before a headless segment stays", "recovery", '            torn = torn or TornTail(path, 0, len(data), "a segment without a header")\n', "            torn = None\n"),
    Mutant("surplus segments stay", "recovery", '        files.unlink(f"{directory}/{segment_name(number)}")\n', "        pass\n"),
    Mutant("the log goes on at an unaligned offset", "wal", "            self.offset = padded(start + length, FRAME_ALIGNMENT)\n", "            self.offset = min(padded(start + length, FRAME_ALIGNMENT), len(data))\n"),
    Mutant("a damaged frame that was durable is cut off", "wal", "found[0] > self.lsn and found[1] >= self.lsn:", "False:"),
    Mutant("a segment that lost its end goes unnoticed", "recovery", "            if synced or _proves(files, directory, following, lsn):\n", "            if False:\n"),
    Mutant("the log is written over from its start", "wal", "        self._offset = position.offset\n", "        self._offset = SEGMENT_HEADER.size\n"),
    # -- checksums and identities that are not checked ---------------------------------------------------------
    Mutant("frame headers are not checked", "wal", "    if crc32c(data[offset : offset + FRAME.size - 4], seed) != header_crc:\n", "    if False:\n"),
    Mutant("frames are not checked", "wal", "    if crc32c(data[start : start + length]) != payload_crc:\n", "    if False:\n"),
    Mutant("segment headers are not checked", "wal", "    if dispatch.kernels.crc32c(data[: SEGMENT_HEADER.size - 4]) != crc or magic != SEGMENT_MAGIC:\n", "    if magic != SEGMENT_MAGIC:\n"),
    Mutant("LSNs are not checked", "wal", "            if lsn != self.lsn:\n", "            if False:\n"),
    Mutant("the MANIFEST's header is not checked", "manifest", "    if crc32c(data[: size - 4]) != header_crc:\n", "    if False:\n"),
    Mutant("the MANIFEST's map is not checked", "manifest", "    if crc32c(data[size:]) != payload_crc:\n", "    if False:\n"),
    Mutant("file headers are not checked", "generation_files", "        if dispatch.kernels.crc32c(bytes(buffer[: FILE_HEADER.size - 4])) != crc or magic != FILE_MAGIC:\n", "        if magic != FILE_MAGIC:\n"),
    Mutant("tables are not checked", "generation_files", "            if found != self._content_crc:\n", "            if False:\n"),
    Mutant("files that are too short are not noticed", "generation_files", "            if size < entry.bytes or entry.bytes < start:\n", "            if entry.bytes < start:\n"),
    Mutant("blobs are not checked", "blob_arena", "        if found != crc:\n", "        if False:\n"),
    Mutant("a blob's owner is not checked", "blob_arena", "        if length != count or owner != id_:\n", "        if length != count:\n"),
    Mutant("events are not checked", "trace", "        if found != expected:\n", "        if False:\n"),
    Mutant("the order of events is not checked", "trace", "        if (low < index and self._base_id(low) >= id_) or (high > index and self._base_id(high) <= id_):\n", "        if False:\n"),
    Mutant("a search by id trusts what it finds", "trace", "            if not self._verified[index // CHUNK_RECORDS]:\n                self._verify_one(index)  #", "            if False:\n                pass  #"),
    Mutant("a search by id trusts what it misses", "trace", "            if 0 <= at < count:\n                self._verify_one(at)\n", "            pass\n"),
    Mutant("rows are not checked", "rows", "                if bad >= 0:\n                    raise self.damaged(at + bad)\n", "                pass\n"),
    Mutant("check does not read all blobs", "check", "for step in (run.tables, run.blobs, run.events,", "for step in (run.tables, run.events,"),
    # -- other sins --------------------------------------------------------------------------------------------
    Mutant("a failed sync is forgiven", "wal", "        if self._poison is not None:\n            raise PoisonedError(self._poison) from self._poison\n", "        self._poison = None\n"),
    Mutant("a failed sync is forgotten", "wal", "            if self._poison is None:  # no call before this line: Ctrl-C must not make the log forget it\n                self._poison = error\n", ""),
    Mutant("a failed checkpoint is forgiven", 'upkeep', '            if isinstance(error, Exception) and not isinstance(error, (_GivenUp, NoSpaceError, AeonError)):\n', '            if False:\n'),
    Mutant("a failed swap is forgiven", 'upkeep', '        except Exception as error:\n            raise wal.poison(error) from error\n        except BaseException:  # Ctrl-C', '        except Exception as error:\n            raise error\n        except BaseException:  # Ctrl-C'),
    Mutant("texts written ahead of a commit are deleted at open", "recovery", "    if engine.blobs.ahead_end and not manifest.files:\n", "    if False:\n"),
    Mutant("a checkpoint writes over texts written ahead", 'checkpoint', '        ahead_end = 0 if self._compacting else self._blobs.ahead_end\n', '        ahead_end = 0\n'),
    Mutant("recovery forgets where texts ahead end", "blob_arena", "            self.ahead_end = max(self.ahead_end, padded(offset + BLOB.size + count, BLOB_ALIGNMENT))\n", "            pass\n"),
    Mutant("the log that a generation covers is replayed again", 'checkpoint', 'segment=position.segment,', 'segment=engine.manifest.segment,'),
    Mutant("a checkpoint forgets how many ids were given out", 'checkpoint', 'next_id=frozen.next_id,', 'next_id=engine.manifest.next_id,'),
    # -- the graph ---------------------------------------------------------------------------------------------
    Mutant("a checkpoint leaves links out of the arena", "checkpoint", "            self._write_changes(blobs)\n", ""),
    Mutant("a checkpoint forgets links of the generation before", "graph", "np.concatenate([self.base_links, _records_of(self._links)])", "_records_of(self._links)"),
    Mutant("an edge outlives an end", "checkpoint", "table[_among(table[\"src\"], ids) & _among(table[\"dst\"], ids)]", "table[_among(table[\"src\"], ids)]"),
    Mutant("a compaction leaves links out of the arena", "checkpoint", "                self._graph[FileKind.LINKS], self._graph[FileKind.ARCHIVED],", "                self._graph[FileKind.LINKS][:0], self._graph[FileKind.ARCHIVED],"),
    Mutant("a generation holds links that came after it", "graph", "    records = records[records[\"lsn\"] <= np.uint64(lsn)]\n", "    records = records.copy()\n"),
    Mutant("a generation ends links that ended after it", "graph", "    records[ended][records[ended] > np.uint64(lsn)] = 0\n", ""),
    Mutant("a compaction forgets branches", "checkpoint", "        self._branches = self._branches_in_use(used[0])\n", "        self._branches = {}\n"),
    Mutant("an unlink is not kept", "graph", "                base[\"ended\"][at] = lsn\n", "                base[\"ended\"][at] = 0\n"),
    Mutant("a restore is not kept", "graph", "                base[\"restored\"][at] = lsn\n", "                base[\"restored\"][at] = 0\n"),
    Mutant("branches are not written", "trace", "\"branches\": branches,", "\"branches\": [],"),
    Mutant("the order of operations without an event is not checked", "check", "        if lsn < self._last_change:\n", "        if False:\n"),
    Mutant("the order of events in a chunk is not checked", "trace", "            for index in np.flatnonzero(ids[1:] <= ids[:-1])[:1].tolist():\n", "            for index in ():\n"),
    Mutant("a failed write leaves its descriptor open", "generation_files", "                except BaseException:\n                    self._file.close()\n                    raise\n", "                except BaseException:\n                    raise\n"),
    Mutant("a compaction writes over texts written ahead", 'checkpoint', '    return number + (compacting and not engine.manifest.files and engine.blobs.ahead_end > 0)\n', '    return number\n'),
    Mutant("a generation given up stays", "upkeep", "                    remove_leftovers(store._files, store._root, store._engine)\n", "                    pass\n"),
    Mutant("a generation is written beside leftovers", "upkeep", "            remove_leftovers(store._files, store._root, old)  # of", "            # of"),
    Mutant("a compaction does not look whose blob it copies", 'checkpoint', '            if len(wrong):\n                raise self._misplaced(events[low + wrong[0]])\n', ''),
    Mutant("a compaction leaves long texts behind", 'checkpoint', 'np.flatnonzero(events["flags"] & OpFlag.TEXT_REF) if self._compacting else indexes[:0]', 'indexes[:0]'),
    Mutant("a compaction brings replaced rows back", 'checkpoint', '        yield FileKind.ROW_DEATHS, deaths.astype("<u8", copy=False), len(deaths)\n', '        yield FileKind.ROW_DEATHS, 0 * deaths.astype("<u8"), len(deaths)\n'),
    Mutant("a compaction brings replaced versions back", 'checkpoint', '        yield FileKind.EVENT_DEATHS, deaths.astype("<u8", copy=False), len(deaths)\n', '        yield FileKind.EVENT_DEATHS, 0 * deaths.astype("<u8"), len(deaths)\n'),
    Mutant("a compaction keeps what was forgotten", 'checkpoint', '        gone = (self._deaths != 0) & (self._deaths < SUPERSEDED)\n', '        gone = np.zeros(len(self._deaths), bool)\n'),
    Mutant("the MANIFEST is swapped before the generation is mapped", 'upkeep', '            new = self._build(store, frozen, manifest)\n', '            manifests.store(store._files, store._root, manifest)\n            raise NoSpaceError\n'),
    Mutant("the old generation goes before the MANIFEST is swapped", 'upkeep', '            manifests.store(store._files, store._root, manifest)\n            with old.atlas.unscanned():\n                old.let_go(self._breathe)\n                self._publish(store, wal, frozen, new)\n                old.let_go(self._breathe)  # what commits have read since\n            store._engine.atlas.start_index()\n            removed = remove_leftovers(store._files, store._root, store._engine)\n', '            with old.atlas.unscanned():\n                old.let_go(self._breathe)\n                self._publish(store, wal, frozen, new)\n                old.let_go(self._breathe)  # what commits have read since\n            store._engine.atlas.start_index()\n            removed = remove_leftovers(store._files, store._root, store._engine)\n            manifests.store(store._files, store._root, manifest)\n'),
    # -- commits made while a generation is written ---------------------------------------------------------------
    Mutant("an index goes along to rows with other numbers", "upkeep", "            if not new.is_renumbered(frozen):\n", "            if True:\n"),
    Mutant("an index that is made reads the rows it began with", "index_maker", "                self._making.read_from(new)\n", "                pass\n"),
    Mutant("a prepared segment is begun although a commit came before", "wal", " and prepared.lsn == self.appended_lsn:\n", ":\n"),
    Mutant("a prepared segment says that the one before is whole", "wal", "lsn + 1, next_id, previous_synced=False\n", "lsn + 1, next_id, previous_synced=True\n"),
    Mutant("a prepared segment that was not begun stays", "wal", "            self._files.unlink(prepared.file.path)\n", "            pass\n"),
    Mutant("a prepared segment loses its place before its file is gone", "wal", "        self._prepared = _Prepared(prepared.segment, prepared.lsn, None, 0)\n", "        self._prepared = None\n"),
    Mutant("a segment is begun beside a prepared one", "wal", "self._offset > SEGMENT_HEADER.size and self._prepared is None:\n", "self._offset > SEGMENT_HEADER.size:\n"),
    Mutant("commits since the freeze are passed over", "upkeep", "            new.apply(frame.lsn, frame.first_id, frame.payload)\n", "            new.published = (*new.published[:2], frame.lsn)\n"),
    Mutant("the log is followed from the segment's first frame on", "log_follower", "self._segment, self._offset, self._seed = position.segment, position.offset, position.header_crc\n", "self._segment, self._offset, self._seed = position.segment, SEGMENT_HEADER.size, position.header_crc\n"),
    Mutant("what was read of the log before it was written is not read again", "log_follower", "        if isinstance(found, str):  # it may have been written since the last read\n            self._fill()\n", "        if isinstance(found, str):\n"),
    Mutant("the log is not followed into its next segment", "log_follower", "            self._next_segment(found)\n", "            pass\n"),
    Mutant("what is read back from the log is not checked", "log_follower", "        found = frame_at(self._data, at, self._seed)\n", "        found = self.lsn, 0, FRAME.unpack_from(self._data, at)[6], FRAME.unpack_from(self._data, at)[3]\n"),
    Mutant("what is frozen holds the first commit behind it", "upkeep", "self._freeze_lsn == lsn - 1 and", "self._freeze_lsn == lsn - 2 and"),
    Mutant("a swap does not ask whether it is complete", "upkeep", "            self._catch_up(new, old.view.lsn, pausing=False)\n            new.atlas.learn_from", "            new.atlas.learn_from"),
    Mutant("a page index is handed over to rows with other numbers", "engine", "        return self.atlas.codes.base_count != frozen.view.rows\n", "        return False\n"),
    Mutant("a generation holds ends of memories that came after it", "engine", "    later = np.flatnonzero((deaths & _LSN) > view.lsn)\n", "    later = np.empty(0, np.int64)\n"),
    Mutant("a generation forgets what had been replaced before a later end", "engine", "        deaths[index] = before | SUPERSEDED if 0 < before <= view.lsn else 0\n", "        deaths[index] = 0\n"),
    Mutant("a generation holds ends of rows that came after it", "checkpoint", "        self._row_deaths[self._row_deaths > view.lsn] = 0\n", ""),
    Mutant("a generation holds operations on the graph that came after it", "checkpoint", "list(trace.graph.log) if at <= lsn]", "list(trace.graph.log)]"),
    Mutant("a generation holds branches that came after it", "checkpoint", "self._trace.names.branches.copy().items() if branch[1] <= lsn}", "self._trace.names.branches.copy().items()}"),
    Mutant("a generation knows keys that came after it", "checkpoint", "engine.keys.records(frozen.key_changes, self._pause)", "engine.keys.records(engine.keys.changes, self._pause)"),
    Mutant("a long text goes ahead into an arena that is being written", "store", "if self._upkeep.writing else ~0", "if False else ~0"),
    # -- access counts ---------------------------------------------------------------------------
    Mutant("access counts are not synced before their swap", "salience", "            write_fully(file, header + content, 0)\n            file.fsync()\n", "            write_fully(file, header + content, 0)\n"),
    Mutant("access counts are written in place", "salience", "        self._files.rename(temporary, path)\n", "        pass\n"),
    Mutant("the content of access counts is not checked", "salience", "    if dispatch.kernels.crc32c(data[size:]) != crc:\n", "    if False:\n"),
    Mutant("the header of access counts is not checked", "salience", "    if len(data) < size or dispatch.kernels.crc32c(data[: size - 4]) != int.from_bytes(data[size - 4 : size], \"little\"):\n", "    if len(data) < size:\n"),
    # -- backup and repair ---------------------------------------------------------------------------------------
    Mutant("the names in a copy are not synced", "staging", "                files.fsync_dir(f\"{made}/{name}\")\n", "                pass\n"),
    Mutant("a copy's name is not synced", "staging", "    files.fsync_dir(parent(target))\n", "    pass\n"),
    Mutant("a failed copy is left there", "staging", "            remove_tree(files, made)\n", "            files.rename(made, target)\n"),
    Mutant("copied files are not synced", "backups", "                target.fsync()\n            finally:\n                target.close()\n        finally:\n            source.close()\n        self._counted", "                pass\n            finally:\n                target.close()\n        finally:\n            source.close()\n        self._counted"),
    Mutant("a copied log is not synced", "backups", "                write_fully(file, data, 0)\n                file.fsync()\n", "                write_fully(file, data, 0)\n"),
    Mutant("a checkpoint during a copy is not noticed", "backups", "            if manifests.load(self._files, self._root) == manifest:\n                self._finish", "            if True:\n                self._finish"),
    Mutant("texts ahead of their commit are not copied", "backups", "        self._copy_texts_ahead(manifest)\n", ""),
    Mutant("a frame that is being written is copied", "backups", "                data = data[: reader.offset]", "                data = data + b'garbage'"),
    Mutant("what repair writes is not synced", "repairing", "                writer.sync()\n", "                pass\n"),
    Mutant("repair believes every blob", "salvage_blobs", "    return (id_, lsn, end) if dispatch.kernels.crc32c(data[at + 4 : end]) == crc else None\n", "    return id_, lsn, end\n"),
    Mutant("repair has no doubts about a gap", "salvage_log", "            found.doubt_before = max(found.doubt_before, gap.first)\n", ""),
    Mutant("repair forgets links", "salvage_blobs", "                found.changes.append((lsn, bytes(blob)))\n", "                pass\n"),
    Mutant("repair forgets links of the log", "salvage", "                        self.changes.append((number, bytes(operation.blob)))\n", "                        pass\n"),
    Mutant("repair does not ask the tables for a damaged link", "salvage", "            self.changes = operations_of(links, archived, names.kind_name, branches)\n", "            pass\n"),
    Mutant("repair takes no branches from the names", "salvage", "names.kind_name, branches)", "names.kind_name, [])"),
    Mutant("repair lists no lost links", "salvage", "        for damage in unexplained:\n            self.lost.append(", "        for damage in ():\n            self.lost.append("),
    Mutant("repair drops the counts of recalls", "repairing", "        if len(self._salvage.salience):\n", "        if False:\n"),
    Mutant("repair gives ids out again", "repairing", "next_id=salvage.next_id,", "next_id=salvage.manifest.next_id,"),
)  # fmt: skip
