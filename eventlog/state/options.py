"""RocksDB's options: one set for every database of the process."""

from __future__ import annotations

from functools import cache

from rocksdict import BlockBasedOptions, Cache, DBCompressionType, Options

#: One block cache for the process, whatever the number of partitions and processors. Stock Faust takes 2 GiB each.
BLOCK_CACHE_BYTES = 32 << 20
#: Size of a memtable; each database has two at most.
WRITE_BUFFER_BYTES = 8 << 20


@cache
def block_cache() -> Cache:
    """The process's block cache; index and filter blocks count towards it."""
    return Cache(BLOCK_CACHE_BYTES)


def options() -> Options:
    """New options, on the shared block cache."""
    blocks = BlockBasedOptions()
    blocks.set_block_cache(block_cache())
    blocks.set_cache_index_and_filter_blocks(True)
    blocks.set_bloom_filter(10, False)
    found = Options(raw_mode=True)
    found.create_if_missing(True)
    found.set_paranoid_checks(True)
    found.set_block_based_table_factory(blocks)
    found.set_write_buffer_size(WRITE_BUFFER_BYTES)
    found.set_max_write_buffer_number(2)
    found.set_compression_type(DBCompressionType.lz4())
    found.set_keep_log_file_num(2)
    found.set_max_open_files(64)
    return found
