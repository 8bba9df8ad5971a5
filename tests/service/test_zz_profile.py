import time
from tests.running import running
from tests.service import law
async def test_x(new_database):
    for _ in range(3):
        t=[time.time()]
        url=new_database(); t.append(time.time())
        async with running(url) as live:
            t.append(time.time())
            await live.project(); await live.credit(); t.append(time.time())
            e=await live.stream("Good morning"); t.append(time.time())
            f=law.lawful(e); await law.stored(live,f); await law.billed(live,f); t.append(time.time())
            await law.healthy(live,url); t.append(time.time())
        t.append(time.time())
        print(["%.3f"%(b-a) for a,b in zip(t,t[1:])])
