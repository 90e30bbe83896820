#include "sim.h"
#include <stdio.h>
static void run(const char*name,double x,bool regular,unsigned limit,unsigned clients,double slow){
 static struct sim s; memset(&s,0,sizeof s);
 s.limit=limit;s.places=40;s.service_ns=20*NS_PER_MS;s.slowdown=slow;s.jitter=0.05;s.warmup_ns=5*NS_PER_S;s.duration_ns=20*NS_PER_S;
 s.config.queue.size=256;s.config.queue.target_ns=20*NS_PER_MS;
 s.source_count=clients;
 for(unsigned i=0;i<clients;i++)s.sources[i]=(struct sim_source){.per_s=2000*x/clients,.is_regular=regular,.client=i+1,.priority=PRIORITY_DEFAULT};
 sim_run(&s);
 printf("%-8s %.1fx %s limit=%u clients=%u: goodput %.1f%% p50 %.1f p99 %.1f refused p50 %.2f qmax %u drop %u over %u full %u lim %.1f\n",name,x,regular?"reg":"poi",limit,clients,s.goodput/20,s.p50_ns/1e6,s.p99_ns/1e6,s.refused_p50_ns/1e6,s.queued_max,s.reasons[FAIL_QUEUE_DROPPED],s.reasons[FAIL_OVERLOADED],s.reasons[FAIL_QUEUE_FULL],s.limiter.limit);
}
int main(void){
 double xs[]={0.8,1,1.1,2,5};
 for(int reg=0;reg<2;reg++)for(int c=0;c<2;c++)for(int a=0;a<2;a++)for(int i=0;i<5;i++)run("",xs[i],reg,a?0:40,c?50:1,0.01);
}
