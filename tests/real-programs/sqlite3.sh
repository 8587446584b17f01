#!/bin/sh
# sqlite3's shell: a table, an index, joins, a transaction rolled back, a dump, an error.
rows=$((20000 * ${1:-1}))
sqlite3 test.db <<SQL
create table word(id integer primary key, name text, value real);
with recursive n(i) as (select 1 union all select i + 1 from n where i < $rows)
    insert into word select i, printf('%x %x', i * 2654435761 % 4294967296, i), i * 0.25 from n;
create index word_name on word(name);
begin; delete from word where id % 2; rollback;
select count(*), sum(value), min(name), max(name) from word;
select a.id, b.id from word a join word b on b.id = a.id + 7 where a.name like '%ab%' order by b.name desc limit 200;
select substr(name, 1, 1), count(*), group_concat(id % 10, '') from word where id < 2000 group by 1 order by 1;
.mode json
select * from word where id <= 20;
.mode box
select * from word order by name limit 20;
pragma integrity_check;
SQL
echo "exit $?"
sqlite3 test.db .dump | cksum
sqlite3 test.db 'select * from missing'
echo "exit $?"
