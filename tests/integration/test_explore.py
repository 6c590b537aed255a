import os, time, pytest
from project import Project, poll
@pytest.fixture
def project(tmp_path, database): return Project(tmp_path / "p", database)
def test_x(project, database):
    r = project.run("migrate.yml", "--check", "--diff", "-vvv"); print(r.output)
    t=time.time()
    r = project.run("migrate.yml"); print(r.output); print(time.time()-t); 
    t=time.time()
    r = project.run("migrate.yml"); print(r.output); print(r.record); print(time.time()-t)
    print([str(p) for f in project._temporary for p in f.rglob('*')])
def test_int(project, database):
    (project.init/"001_a.sql").write_text("CREATE TABLE a (); SELECT pg_sleep(8); CREATE TABLE b();")
    p = project.start("migrate.yml", **project.own_files())
    with database.connect() as s:
        poll(lambda: s.execute("select 1 from pg_stat_activity where query ~ 'pg_sleep' and pid<>pg_backend_pid()").fetchall())
        os.system("ps axfo pid,ppid,pgid,sid,args | grep -v grep| grep -A8 ansible")
        project.interrupt(p); t=time.time()
        r = project.finish(p, p.wait()); print(r.output, r.code, time.time()-t)
        os.system("ps axfo pid,ppid,pgid,sid,args | grep -v grep| grep -A8 ansible")
        poll(lambda: not s.execute("select 1 from pg_stat_activity where query ~ 'pg_sleep' and pid<>pg_backend_pid()").fetchall())
        print(time.time()-t)
        time.sleep(1)
        print(s.execute("select to_regclass('a'), to_regclass('b')").fetchall(), r.record)
def test_status(project, database):
    for kw in ({}, {'db_port': 1}, {'ansible_connection':'ssh','ansible_host':'192.0.2.1','ansible_ssh_executable':'/tmp/pbt/ssh'}):
        r = project.finish(p:=project.start("status.yml", **kw), p.wait()); print(r.code, r.output)
