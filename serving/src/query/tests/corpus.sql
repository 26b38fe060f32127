-- ok 40
select * from "order"

-- ok 12
select product_id, price from product order by price desc

-- ok 5
select status, count(*) as n, sum(total_amount) as total from "order" group by status order by n desc, status

-- ok 1
select count(*) from order_events

-- ok 1
select count(distinct session_id) from click_events where event_type = 'page_view'

-- ok 1
select 1

-- ok 3
select * from product limit 3

-- ok 3
select * from product order by product_id limit 3 offset 2

-- ok 8
select u.user_id, u.total_orders, count(o.order_id) from user u join "order" o on o.user_id = u.user_id group by 1, 2

-- ok 8
select user_id from user where total_spent > (select avg(total_spent) from user) or true

-- ok 8
with big as (select user_id, sum(total_amount) as t from "order" group by user_id) select * from big where t > 0

-- ok 20
select order_id from "order" where city = 'Riga'

-- ok 12
select product_id from product union select product_id from product

-- ok 24
select product_id from product union all select product_id from product

-- ok 0
select product_id from product except select product_id from product

-- ok 12
select product_id from product intersect select product_id from product

-- ok 40
select order_id, row_number() over (partition by status order by created_at) as r from "order"

-- ok 5
select order_id, status from "order" qualify row_number() over (partition by status order by order_id) = 1

-- ok 40
select order_id, sum(total_amount) over w as running from "order" window w as (order by order_id rows between 2 preceding and current row)

-- ok 8
select user_id, case when total_orders > 4 then 'many' else 'few' end as kind from user

-- ok 1
select date_trunc('hour', created_at) as h, count(*) from "order" group by h

-- ok 40
select o.order_id, p.payment_id from "order" o left join payment_events p using (order_id)

-- ok 8
select order_id from "order" o where exists (select 1 from payment_events p where p.order_id = o.order_id)

-- ok 32
select order_id from "order" where order_id not in (select order_id from payment_events)

-- ok 40
select order_id from "order" where order_id like 'ORD-2026%'

-- ok 10
select order_id from "order" where order_id like 'ORD\_%' or order_id like '%-100_'

-- ok 4
select product_id from product where name ilike '%thing 1%' or category ilike 'nothing' or name ilike 'THING 2'

-- ok 1
select min(price), max(price), avg(price), stddev(price) from product

-- ok 1
select count(*) filter (where status = 'cancelled') from "order"

-- ok 1
select now() as n, current_date as d, now() - interval '15 minutes' as before, current_timestamp

-- ok 40
select order_id from "order" where created_at > now() - interval 1 day

-- ok 1
select extract(hour from timestamp '2026-01-01 10:00:00'), date_part('minute', timestamp '2026-01-01 10:05:00')

-- ok 1
select cast('12' as bigint), '12'::integer, try_cast('x' as double), date '2026-01-01'

-- ok 1
select coalesce(null, 1), nullif(1, 1), greatest(1, 2), abs(-3), round(1.25, 1), 7 // 2, 7 % 2, 1.5 + 2

-- ok 1
select 'a' || 'b' || 'c' as t, concat('a', 1), upper('x'), trim(' x '), substring('hello' from 2 for 3), position('l' in 'hello')

-- ok 2
select * from (values (1, 'a'), (2, 'b')) t(n, s)

-- ok 1
select (select count(*) from product) as products, (select count(*) from user) as users

-- ok 40
select items[1].product_id as p from order_events

-- ok 40
select len(items) from order_events

-- ok 3
select category, count(*) from product group by all

-- ok 3
select distinct category from product

-- ok 3
select distinct on (category) category, price from product order by category, price

-- ok 10
select session_id, ended_at, duration_seconds from session

-- ok 40
select user_id from click_events

-- ok 12
select p1.product_id from product p1 join product p2 on p1.product_id = p2.product_id

-- ok 9
select a.category, b.category from (select distinct category from product) a cross join (select distinct category from product) b

-- ok 40
SELECT /* a comment */ order_id -- another
FROM "order"

-- ok 12
select "product_id" from "PRODUCT"

-- ok 12
select (product.price) from product

-- ok 3
select category from product group by 1 having count(*) > 1 order by 1

-- ok 1
select arg_max(product_id, price), any_value(category), approx_count_distinct(product_id) from product

-- ok 40
select lag(total_amount) over (order by order_id), lead(total_amount, 2) over (order by order_id) from "order"

-- ok 1
select regexp_matches('abc', '^a.c$')

-- ok 12
select * from product where product_id is not null and not (price between 1 and 2) and price is distinct from 5

-- ok 40
select * from "order" where total_amount is null or total_amount is not null

-- ok 12
select product_id from (select product_id from (select product_id from product))

-- ok 0
select * from product where false

-- ok 0
select * from "order" where order_id = 'ORD-20260101-9001'

-- ok 1
select count(*) from "order" where user_id like 'OTHER%' or city like 'OTHER%'

-- ok 1
select sum(total_amount) from "order"

-- refused
select * from "order" o, (select _tenant from "order") x union by name select 1

-- invalid
select _tenant from "order"

-- invalid
select "_tenant" from order_events

-- invalid
select _key, _state from product

-- invalid
select rowid from "order"

-- invalid
select _extra from order_events

-- invalid
select o._tenant from "order" o

-- invalid
select * from "order" where _tenant = 'other'

-- invalid
select * from "order" where tenant = 'other'

-- invalid
select * from "order" order by _tenant

-- refused
select * from en_order_v1

-- refused
select * from "en_order_v1"

-- refused
select * from ev_order

-- refused
select * from dead_letters

-- refused
select * from dead_letter_pieces

-- refused
select * from ingest

-- refused
select * from meta

-- refused
select * from source_partitions

-- refused
select * from erasures

-- refused
select * from contract_state

-- refused
select * from main.en_order_v1

-- refused
select * from main."order"

-- refused
select * from serving.main.en_order_v1

-- refused
select * from information_schema.tables

-- refused
select * from information_schema.columns

-- refused
select * from pg_catalog.pg_tables

-- refused
select * from sqlite_master

-- refused
select * from duckdb_tables

-- refused
select * from duckdb_tables()

-- refused
select * from duckdb_settings()

-- refused
select * from duckdb_secrets()

-- refused
select * from duckdb_views()

-- refused
select * from pragma_table_info('en_order_v1')

-- refused
select * from pragma_storage_info('en_order_v1')

-- refused
select * from '{canary}'

-- refused
select * from "{canary}"

-- refused
select * from 'canary.csv'

-- refused
select * from read_csv('{canary}')

-- refused
select * from read_csv_auto('{canary}')

-- refused
select * from read_text('{canary}')

-- refused
select * from read_blob('{canary}')

-- refused
select * from read_json('{canary}')

-- refused
select * from read_parquet('{canary}')

-- refused
select * from parquet_scan('{canary}')

-- refused
select * from parquet_metadata('{canary}')

-- refused
select * from sniff_csv('{canary}')

-- refused
select * from glob('/**')

-- refused
select read_text('{canary}')

-- refused
select content from read_text('/etc/passwd')

-- refused
select getenv('HOME')

-- refused
select current_setting('temp_directory')

-- refused
select * from query_table('en_order_v1')

-- refused
select * from query('select 1')

-- refused
select * from query_table(['en_order_v1'])

-- refused
select * from iceberg_scan('{canary}')

-- refused
select * from sqlite_scan('{canary}', 't')

-- refused
select * from postgres_scan('', '', '')

-- refused
select * from generate_series(1, 1000000000)

-- refused
select * from range(1000000000000)

-- refused
select unnest(range(1000000000))

-- refused
select * from unnest([1, 2])

-- refused
select * from repeat_row(1, num_rows = 1000000000)

-- refused
select repeat('a', 1000000000)

-- refused
select rpad('a', 1000000000, 'b')

-- refused
select lpad('a', 1000000000, 'b')

-- refused
select replace('aaaa', 'a', 'bbbbbbbbbbbbb')

-- refused
select regexp_replace('aaaa', 'a', 'bbb', 'g')

-- refused
select printf('%1000000000d', 1)

-- refused
select format('{:>1000000000}', 1)

-- refused
select string_agg(order_id, ',') from "order"

-- refused
select list(order_id) from "order"

-- refused
select array_agg(order_id) from "order"

-- refused
select histogram(total_amount) from "order"

-- refused
select random()

-- refused
select setseed(0.5)

-- refused
select nextval('s')

-- refused
select txid_current()

-- refused
select current_user()

-- refused
select current_schema()

-- refused
select current_database()

-- refused
select version()

-- refused
select pg_typeof(1)

-- refused
select error('boom')

-- refused
select sleep_ms(10000)

-- refused
select pg_sleep(10)

-- refused
select write_log('x')

-- refused
select checkpoint()

-- refused
select * from checkpoint()

-- refused
select * from force_checkpoint()

-- refused
select hash(order_id) from "order"

-- refused
select md5('x')

-- refused
select encode('x')

-- refused
select columns(*) from "order"

-- refused
select columns('.*') from "order"

-- refused
select min(columns(*)) from "order"

-- refused
select columns(c -> c like 'o%') from "order"

-- refused
select * exclude (order_id) from "order"

-- refused
select * replace (1 as order_id) from "order"

-- invalid
select * rename (order_id as x) from "order"

-- refused
select *, * from "order"

-- refused
select o.*, * from "order" o

-- refused
select o.*, o.* from "order" o

-- refused
from "order"

-- refused
from "order" select order_id

-- refused
from 'canary.csv'

-- invalid
table "order"

-- safe
pivot "order" on status using count(*)

-- safe
unpivot "order" on total_amount into name x value y

-- refused
select * from "order" pivot (count(*) for status in ('pending'))

-- safe
summarize "order"

-- safe
describe "order"

-- safe
describe select * from "order"

-- safe
show tables

-- safe
show all tables

-- refused
explain select * from "order"

-- refused
explain analyze select * from "order"

-- refused
insert into en_order_v1 select * from en_order_v1

-- refused
update en_order_v1 set status = 'x'

-- refused
delete from en_order_v1

-- refused
truncate table en_order_v1

-- refused
drop table en_order_v1

-- refused
create table t (a int)

-- refused
create table t as select * from "order"

-- refused
create temp table t as select 1

-- refused
create view v as select * from en_order_v1

-- refused
create or replace view "order" as select 1

-- safe
create macro m(a) as a + 1

-- refused
create schema s

-- refused
create sequence s

-- safe
create function f(a) as a

-- safe
create secret s (type s3)

-- refused
alter table en_order_v1 rename to x

-- refused
copy en_order_v1 to '/tmp/leak.csv'

-- refused
copy (select * from "order") to '{canary}'

-- refused
copy en_order_v1 from '{canary}'

-- safe
export database '/tmp/leak'

-- safe
import database '/tmp/leak'

-- refused
attach '{canary}' as leak

-- refused
attach database '/tmp/x.duckdb' as x

-- refused
detach x

-- refused
use main

-- safe
install httpfs

-- safe
load httpfs

-- refused
set threads = 100

-- refused
set memory_limit = '100GB'

-- refused
set enable_external_access = true

-- refused
reset threads

-- refused
pragma database_list

-- refused
pragma enable_profiling

-- refused
begin

-- refused
commit

-- refused
rollback

-- safe
checkpoint

-- refused
vacuum

-- refused
call pragma_version()

-- refused
prepare p as select 1

-- refused
execute p

-- refused
deallocate p

-- refused
select 1; select 2

-- refused
select 1; drop table en_order_v1

-- refused
select * from "order"; delete from en_order_v1; --

-- refused
select 1 into x

-- refused
select * into t from "order"

-- refused
with x as (delete from en_order_v1 returning *) select * from x

-- refused
with x as (insert into en_order_v1 values (1) returning *) select * from x

-- refused
with recursive r as (select 1 as n union all select n + 1 from r) select * from r

-- refused
with recursive "order" as (select 1 as n union all select n from "order") select * from "order"

-- refused
with "order" as (select * from en_order_v1) select * from "order"

-- refused
with "Order" as (select 1) select * from "order"

-- refused
with x as (select * from y), y as (select 1) select * from x

-- refused
with x as (select * from x) select * from x

-- refused
with x as (select 1), x as (select 2) select * from x

-- refused
with dead_letters as (select 1) select * from (select * from ingest)

-- ok 1
with dead_letters as (select 1 as a) select a from dead_letters

-- refused
select * from (with inner_one as (select 1) select * from inner_one) a, inner_one

-- refused
select * from "order" tablesample 10 percent

-- invalid
select * from "order" using sample 10 percent

-- invalid
select * from "order" at (version => 1)

-- refused
select * from "order" natural join user

-- safe
select * from "order" positional join user

-- invalid
select * from "order" asof join order_events on "order".order_id = order_events.order_id

-- refused
select * from lateral (select 1) t

-- refused
select * from "order" for update

-- ok 40
select * from "order" limit all

-- refused
select * from "order" limit (select count(*) from "order")

-- invalid
select * from "order" limit 10 percent

-- refused
select * from "order" limit -1

-- refused
select * from "order" limit 1 + 1

-- refused
select * from "order" fetch first 3 rows only

-- refused
select * from "order" order by all

-- refused
select * from "order" group by cube (status)

-- refused
select status from "order" group by rollup (status)

-- refused
select status from "order" group by grouping sets ((status), ())

-- refused
select $1

-- refused
select ?

-- safe
select #1 from "order"

-- refused
select order_id from "order" where order_id = :name

-- safe
select $$text$$

-- safe
select e'\x41'

-- refused
select x'41'

-- refused
select [1, 2, 3]

-- refused
select {'a': 1}

-- refused
select map {'a': 1}

-- refused
select list_transform([1], x -> x + 1)

-- refused
select (1, 2)

-- refused
select row(1, 2)

-- refused
select struct_pack(a := 1)

-- refused
select 1 = any (select 1)

-- refused
select 1 < all (select 1)

-- refused
select 'a' similar to 'a'

-- refused
select 'a' ~ 'a'

-- refused
select 'abc' like '%b%' escape '$'

-- refused
select order_id from "order" where order_id like status

-- refused
select regexp_matches('a', status) from "order"

-- refused
select cast(1 as json)

-- refused
select cast('x' as blob)

-- refused
select cast('{canary}' as regclass)

-- refused
select timestamptz '2026-01-01 00:00:00+00'

-- refused
select now() at time zone 'UTC'

-- refused
select 1 & 2

-- refused
select 1 << 62

-- refused
select 2 ^ 3

-- refused
select order_id -> 'a' from order_events

-- refused
select order_id ->> '$.a' from order_events

-- refused
select order_id collate nocase from "order"

-- invalid
select row_number() from "order"

-- refused
select lower('a') over ()

-- refused
select lower(distinct 'a')

-- refused
select sum(total_amount order by total_amount) from "order"

-- refused
select percentile_cont(0.5) within group (order by total_amount) from "order"

-- invalid
select

-- invalid
select from where

-- invalid
this is no sql

-- refused
;

-- invalid
select * from "order" where

-- invalid
select 'unclosed

-- invalid
select "unclosed

-- invalid
select nothing from "order"

-- invalid
select * from "order" where nothing = 1

-- invalid
select abs('x', 'y')

-- invalid
select sum(status) from "order"

-- invalid
select cast(status as bigint) from "order"

-- invalid
select status from "order" group by city

-- ok 0
select * from "order" where try_cast(user_id as bigint) = 5

-- ok 0
select order_id from "order" where case when user_id like 'OTHER%' then cast(user_id as bigint) else 0 end > 0

-- ok 0
select order_id from "order" where (case when total_amount > 7000000 then cast('x' || city as bigint) else 0 end) > 0

-- ok 0
select * from order_events where (case when position > 0 and city like 'OTHERS%' then cast(city as integer) else 0 end) = 1

-- ok 40
select o.order_id from "order" o join user u on u.user_id = o.user_id and (case when u.user_id like 'OTHER%' then cast(u.user_id as bigint) else 0 end) = 0

-- refused
select a + a as b, b + b as c, c + c as d from (select 1 as a)

-- refused
select 1 as a, a + 1 as b

-- refused
select 1 as a, (select a) as b

-- ok 1
select a as b, a + a as c from (select 1 as a)

-- refused
with a as (select * from product), b as (select * from a x, a y), c as (select * from b x, b y), d as (select * from c x, c y), e as (select * from d x, d y), f as (select * from e x, e y) select count(*) from f

-- refused
select 1 from product a, product b, product c, product d, product e, product f, product g, product h, product i, product j, product k, product l, product m, product n, product o, product p, product q, product r, product s, product t, product u, product v, product w, product x, product y

-- timeout
select count(*) from click_events a, click_events b, click_events c, click_events d, click_events e, click_events f, click_events g where a.position + b.position + c.position + d.position + e.position + f.position + g.position = -1

-- timeout
select max(a.position * b.position) from click_events a, click_events b, click_events c, click_events d, click_events e, click_events f, click_events g, click_events h order by 1

-- safe
select count(distinct a.event_id || b.event_id || c.event_id || d.event_id) from click_events a, click_events b, click_events c, click_events d

-- safe
select stddev(a.position + b.position + c.position + d.position + e.position) from click_events a, click_events b, click_events c, click_events d, click_events e

-- safe
select a.event_id, b.event_id, c.event_id from click_events a, click_events b, click_events c, click_events d order by 1, 2, 3

-- ok 1
select length(h) from (select g || g || g || g || g || g || g || g as h from (select f || f || f || f || f || f || f || f as g from (select e || e || e || e || e || e || e || e as f from (select d || d || d || d || d || d || d || d as e from (select '0123456789' || '0123456789' as d)))))

-- ok 0
select order_id from (select x || x || x || x || x || x || x || x || x || x || x || x as y, order_id from (select order_id || order_id || order_id || order_id || order_id || order_id || order_id as x, order_id from "order")) where y like '%0%0%0%0%0%0%0%0%0%0%0%0%0%0%0%0%0%0%0%0%z' or y like '%_0_%_0_%_0_%_0_%_0_%_0_%_0_%_0_%q'

-- ok 0
with a as (select total_amount + total_amount + total_amount + total_amount as x from "order"), b as (select x + x + x + x + x + x + x + x as y from a), c as (select y + y + y + y + y + y + y + y as z from b), d as (select z + z + z + z + z + z + z + z as x from c), e as (select x + x + x + x + x + x + x + x as y from d), f as (select y + y + y + y + y + y + y + y as z from e), g as (select z + z + z + z + z + z + z + z as x from f), h as (select x + x + x + x + x + x + x + x as y from g) select y from h where y < 1

-- safe
select ((((((((((((((((((((((1))))))))))))))))))))))

-- safe
select * from (((((((((((((((((((((("order"))))))))))))))))))))))

-- refused
select (((((((((((((((((((((((((((((((((((((((((((((((((((1)))))))))))))))))))))))))))))))))))))))))))))))))))

-- safe
select not not not not not not not not not not not not not not not not not not not not not not not not not not not true

-- invalid
select - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - 1

-- safe
select case when 1 = 1 then case when 1 = 1 then case when 1 = 1 then case when 1 = 1 then case when 1 = 1 then 1 end end end end end

-- ok 1
select 1 from (select 1) as "en_order_v1"

-- invalid
select "en_order_v1".status from "order"

-- invalid
select main."order".status from "order"

-- ok 1
select '''; drop table en_order_v1; --' as t

-- ok 1
select 'a' as "x""y; drop table meta"

-- refused
select * from "order""; drop table meta; --"

-- ok 1
select count(*) from "order" where city = 'Riga'' or ''1''=''1'

-- ok 40
select "order" from "order"

-- safe
select "order".* from "order" as o

-- safe
select prompt('x')

-- refused
select * from json_each('{"a": 1}')

-- refused
select json_extract('{"a":1}', '$.a')

-- refused
select list_sort([3,1])

-- refused
select * from test_all_types()

-- refused
select * from duckdb_logs()

-- refused
select * from which_secret('s3://x', 's3')

-- refused
select add_parquet_key('k', 'v')

-- refused
select * from seq_scan('en_order_v1')

-- refused
select * from read_duckdb('{canary}')

-- refused
select getvariable('x')

-- refused
select * from duckdb_variables()

-- refused
select alias(order_id) from "order"

-- refused
select typeof(order_id) from "order"

-- refused
select stats(order_id) from "order"

-- refused
select export_state(sum(total_amount)) from "order"

-- refused
select in_search_path('memory', 'main')

-- refused
select main.abs(1)

-- refused
select "main"."read_text"('{canary}')

-- refused
select "READ_TEXT"('{canary}')

-- ok 1
select "ABS"(-1)

-- refused
select x2+x2 as x1, x3+x3 as x2, x4+x4 as x3, x5+x5 as x4, x6+x6 as x5, x7+x7 as x6, x8+x8 as x7, x9+x9 as x8, x10+x10 as x9, x11+x11 as x10, x12+x12 as x11, x13+x13 as x12, x14+x14 as x13, x15+x15 as x14, x16+x16 as x15, x17+x17 as x16, x18+x18 as x17, x19+x19 as x18, x20+x20 as x19, x21+x21 as x20, x22+x22 as x21, x23+x23 as x22, x24+x24 as x23, x25+x25 as x24, x26+x26 as x25, x27+x27 as x26, x28+x28 as x27, x29+x29 as x28, x30+x30 as x29, 1 as x30 from product where x1 > 0

-- refused
select alias.x2 + alias.x2 as x1, alias.x3 + alias.x3 as x2, alias.x4 + alias.x4 as x3, alias.x5 + alias.x5 as x4, alias.x6 + alias.x6 as x5, alias.x7 + alias.x7 as x6, alias.x8 + alias.x8 as x7, alias.x9 + alias.x9 as x8, alias.x10 + alias.x10 as x9, alias.x11 + alias.x11 as x10, alias.x12 + alias.x12 as x11, alias.x13 + alias.x13 as x12, alias.x14 + alias.x14 as x13, alias.x15 + alias.x15 as x14, alias.x16 + alias.x16 as x15, alias.x17 + alias.x17 as x16, alias.x18 + alias.x18 as x17, alias.x19 + alias.x19 as x18, alias.x20 + alias.x20 as x19, alias.x21 + alias.x21 as x20, alias.x22 + alias.x22 as x21, alias.x23 + alias.x23 as x22, alias.x24 + alias.x24 as x23, alias.x25 + alias.x25 as x24, alias.x26 + alias.x26 as x25, alias.x27 + alias.x27 as x26, alias.x28 + alias.x28 as x27, alias.x29 + alias.x29 as x28, alias.x30 + alias.x30 as x29, 1 as x30 from product where x1 > 0

-- refused
select "Alias".x from product

-- refused
select (alias).x from product

-- refused
select b as a, 1 as b from product

-- refused
select case case case case case case case case case case case case case case case case case case case case case case case case case case case case case case case case case case case price when 0 then 1 when 2 then 3 end when 1 then 1 when 2 then 3 end when 2 then 1 when 2 then 3 end when 3 then 1 when 2 then 3 end when 4 then 1 when 2 then 3 end when 5 then 1 when 2 then 3 end when 6 then 1 when 2 then 3 end when 7 then 1 when 2 then 3 end when 8 then 1 when 2 then 3 end when 9 then 1 when 2 then 3 end when 10 then 1 when 2 then 3 end when 11 then 1 when 2 then 3 end when 12 then 1 when 2 then 3 end when 13 then 1 when 2 then 3 end when 14 then 1 when 2 then 3 end when 15 then 1 when 2 then 3 end when 16 then 1 when 2 then 3 end when 17 then 1 when 2 then 3 end when 18 then 1 when 2 then 3 end when 19 then 1 when 2 then 3 end when 20 then 1 when 2 then 3 end when 21 then 1 when 2 then 3 end when 22 then 1 when 2 then 3 end when 23 then 1 when 2 then 3 end when 24 then 1 when 2 then 3 end when 25 then 1 when 2 then 3 end when 26 then 1 when 2 then 3 end when 27 then 1 when 2 then 3 end when 28 then 1 when 2 then 3 end when 29 then 1 when 2 then 3 end when 30 then 1 when 2 then 3 end when 31 then 1 when 2 then 3 end when 32 then 1 when 2 then 3 end when 33 then 1 when 2 then 3 end when 34 then 1 when 2 then 3 end from product

-- ok 12
select nullif(nullif(nullif(price, 1), 2), 3) from product

-- refused
select price between 1 and 2 between 1 and 2 between 1 and 2 between 1 and 2 between 1 and 2 between 1 and 2 between 1 and 2 between 1 and 2 between 1 and 2 between 1 and 2 between 1 and 2 between 1 and 2 between 1 and 2 between 1 and 2 between 1 and 2 between 1 and 2 between 1 and 2 between 1 and 2 between 1 and 2 between 1 and 2 between 1 and 2 between 1 and 2 between 1 and 2 between 1 and 2 between 1 and 2 between 1 and 2 between 1 and 2 between 1 and 2 between 1 and 2 between 1 and 2 between 1 and 2 between 1 and 2 between 1 and 2 between 1 and 2 between 1 and 2 between 1 and 2 between 1 and 2 between 1 and 2 between 1 and 2 between 1 and 2 from product

-- ok 12
select product_id from product where not (null between 1 and 2) is not null and price between 0 and 100000

-- ok 0
select product_id from product where price not between 0 and 100000 or price between null and 1

-- ok 12
select case category when 'none' then 1 when null then 2 else 3 end as kind from product

-- refused
select price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price as big from product where big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0 and big > 0

-- refused
select price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price as big from product group by 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1

-- refused
select count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w, count(*) over w from product window w as (order by price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price+price)

-- ok 12
select price * 2 as twice, product_id from product where twice > 0 order by twice, 2

-- ok 12
select upper(category) as category from product order by category

-- refused
select name || name || name || name || name || name || name || name || name || name || name || name || name || name || name || name || name || name || name || name || name || name || name || name || name || name || name || name || name || name || name || name || name || name || name || name || name || name || name || name from product

-- refused
select concat(name, name, name, name, name, name, name, name, name, name, name, name, name, name, name, name, name, name, name, name) as n from product where n <> 'a' and n <> 'b'

-- refused
select product_id from product where (select count(*) from product) between 1 and 2 between 1 and 2 between 1 and 2 between 1 and 2 between 1 and 2 between 1 and 2 

-- refused
select median(price) from product

-- refused
select mode(category) from product

-- refused
select quantile_cont(price, 0.9) from product

-- refused
select quantile_disc(price, 0.9) from product
